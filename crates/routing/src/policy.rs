//! Which of the candidates that are left comes first.
