//! Tests of what is packed beside the code.

mod build_script;
