//! Processes that run because this one does: started, watched, started again, and ended with it. What they are, they are told by a specification.
