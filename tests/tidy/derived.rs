//! Finds messages with the form of a value that the compiler derives.

/// Returns the lines of code that write the derived form of a value, which the smallest binary is built without: nothing
/// would stand in its place. Assertions are for developers.
pub fn check_derived(code: &str) -> Vec<String> {
    code.lines()
        .zip(1_usize..)
        .filter(|(line, _)| line.contains("?}") && !line.contains("assert"))
        .map(|(line, number)| format!("{number}: empty in the smallest binary: {}", line.trim()))
        .collect()
}

#[test]
fn a_derived_form_is_found() {
    for (line, is_wrong) in [
        (r#"info!("Client {client:?} is away.");"#, true),
        (r#"info!("Client {:?} is away.", client);"#, true),
        (r#"format!("{client:#?}")"#, true),
        (r#"info!("Client {client} is away.");"#, false),
        (r#"assert!(is_away, "{client:?}");"#, false),
    ] {
        assert_eq!(!check_derived(line).is_empty(), is_wrong, "{line}");
    }
}
