//! The thread that makes batches durable while the loop goes on.
