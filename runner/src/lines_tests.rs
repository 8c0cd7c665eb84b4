//! Tests of `lines`: fields, escapes, control characters.

use super::*;

#[test]
fn terminal_control_is_taken_out() {
    assert_eq!(parse("1,,ui,say,\u{1b}[1;32m==> a: ok\u{1b}[0m\u{7}"), Line::Say("==> a: ok".into()));
    assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\n"), Line::Plain("red".into()));
    assert_eq!(plain("ends in \u{1b}["), Line::Plain("ends in ".into()));
}

/// Packer escapes commas in the data of a line but not in the name of a build.
#[test]
fn a_name_with_commas_is_one_name() {
    let artifact = "1,a, b.amazon-ebs.c,artifact,0,id,us-east-1:ami-aee825b876bf72c2a";
    let id = "us-east-1:ami-aee825b876bf72c2a".to_owned();
    assert_eq!(parse(artifact), Line::ArtifactId { build: "a, b.amazon-ebs.c".into(), id });
    let error = "1,a, b.amazon-ebs.c,error,code: 403%!(PACKER_COMMA) id";
    let message = "code: 403, id".to_owned();
    assert_eq!(parse(error), Line::BuildError { build: "a, b.amazon-ebs.c".into(), message });
    for other in ["1,a, b,artifact,0,end", "1,,error-count,1", "1,error,x", "1,artifact,0,id,x", "1,,ui"] {
        assert_eq!(parse(other), Line::Machine, "{other}");
    }
}

#[test]
fn a_cut_line_does_not_end_in_half_an_escape() {
    let Line::Say(text) = read(b"1,,ui,say,pass%!(PACKER_CO", false, true) else {
        panic!("a line for people")
    };
    assert_eq!(text, "pass");
    let cut = b"1,a,artifact,0,id,us-east-1:ami-aee825b876bf72c2a";
    assert_eq!(read(cut, false, true), Line::Machine, "a truncated id may be the id of another image");
    assert!(matches!(read(cut, true, false), Line::Plain(_)), "standard error states no facts");
}

#[test]
fn cuts_between_characters() {
    assert_eq!(cut("äää", 6), "äää");
    assert_eq!(cut("ääää", 7), "ää…");
}
