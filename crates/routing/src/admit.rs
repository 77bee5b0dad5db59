//! What rules a candidate out, whatever the policy.
