//! The drop folder among real processes: many that write, one that rotates, one that reads and is killed.

mod processes;
