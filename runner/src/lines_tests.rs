//! Tests of `lines`, on output of Packer 1.6.6 and 1.16.

use super::*;

const MODERN: &str = r"1795370402,,ui,say,==> amazon-ebs.node: Creating temporary keypair: packer_6b032da1-e184-c969-72d7-b21df4dba73c
1795370402,,ui,say,==> amazon-ebs.node: Creating temporary security group for this instance: packer_6b032da1-8515-3168-c31e-915901f75d2c
1795370402,,ui,say,==> amazon-ebs.node: Instance ID: i-0502e3594373eef5d
1795370402,,ui,say,==> amazon-ebs.node: AMI: ami-aee825b876bf72c2a
1795370402,,ui,say,Build 'amazon-ebs.node' finished after 800 milliseconds 901 microseconds.
1795370402,amazon-ebs.node,artifact-count,2
1795370402,amazon-ebs.node,artifact,0,builder-id,mitchellh.amazonebs
1795370402,amazon-ebs.node,artifact,0,id,us-east-1:ami-aee825b876bf72c2a%!(PACKER_COMMA)eu-west-1:ami-0123456789abcdef0
1795370402,amazon-ebs.node,artifact,0,string,AMIs were created:\nus-east-1: ami-aee825b876bf72c2a\n
1795370402,amazon-ebs.node,artifact,0,files-count,0
1795370402,amazon-ebs.node,artifact,0,end
1795370402,amazon-ebs.node,artifact,1,id,us-east-1:ami-aee825b876bf72c2a%!(PACKER_COMMA)eu-west-1:ami-0123456789abcdef0
";

fn hear(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        tally.hear(read(line.as_bytes(), true, true), &str::to_owned);
    }
    tally
}

fn ids(tally: &Tally) -> Vec<&str> {
    tally.resources().iter().map(|resource| resource.id.as_str()).collect()
}

#[test]
fn a_build_names_its_images_once_and_its_resources() {
    let tally = hear(MODERN);
    let images: Vec<_> = tally.artifacts().into_iter().map(|a| (a.region, a.image, a.build)).collect();
    let of = |region: &str, image: &str| (region.to_owned(), image.to_owned(), "amazon-ebs.node".to_owned());
    assert_eq!(images, [of("eu-west-1", "ami-0123456789abcdef0"), of("us-east-1", "ami-aee825b876bf72c2a")]);
    let kinds: Vec<_> = tally.resources().iter().map(|r| r.kind).collect();
    use ResourceKind::{Image, Instance, KeyPair, SecurityGroup};
    assert_eq!(kinds, [KeyPair, SecurityGroup, Instance, Image]);
    assert_eq!(ids(&tally)[2..], ["i-0502e3594373eef5d", "ami-aee825b876bf72c2a"]);
}

#[test]
fn old_packer_indents_what_new_packer_marks_with_an_arrow() {
    let old =
        MODERN.replace("ui,say,==> amazon-ebs.node: Instance", "ui,message,    amazon-ebs.node: Instance");
    assert_eq!(hear(&old).resources(), hear(MODERN).resources());
    assert_eq!(hear(&old).artifacts(), hear(MODERN).artifacts());
}

#[test]
fn only_artifact_ids_are_images() {
    let prose = "1,,ui,say,Build 'a' finished after 1 second.\n\
                 1,,ui,say,--> a: AMIs were created:\\nus-east-1: ami-aee825b876bf72c2a\\n\n\
                 us-east-1:ami-aee825b876bf72c2a\n\
                 x,a,artifact,0,id,us-east-1:ami-aee825b876bf72c2a\n\
                 1,a,artifact,0,id,Null\n\
                 1,a,artifact,0,id,us-east-1:ami-nothex!\n\
                 1,a,artifact,0,string,us-east-1:ami-aee825b876bf72c2a\n";
    assert_eq!(hear(prose).artifacts(), []);
    let cut = b"1,a,artifact,0,id,us-east-1:ami-aee825b876bf72c2a";
    assert_eq!(read(cut, false, true), Line::Machine, "an id that was cut may be another image's");
    assert!(matches!(read(cut, true, false), Line::Plain(_)), "standard error states no facts");
}

#[test]
fn a_provisioner_can_not_announce_machines() {
    let tally = hear(
        "1,,ui,message,    a.b: Instance ID: i-0502e3594373eef5d\n\
         1,,ui,say,==> a.b: Provisioning with shell script: x.sh\n\
         1,,ui,message,    a.b: Instance ID: i-00000000000000bad\n\
         1,,ui,message,    a.b: Creating temporary keypair: prod\n\
         1,,ui,message,    c.d: Instance ID: i-0502e3594373eef5e\n\
         1,,ui,message,    c.d: Instance ID: i-0502e3594373eef5e\n\
         1,,ui,message,    c.d: Instance ID: $(id)\n",
    );
    assert_eq!(ids(&tally), ["i-0502e3594373eef5d", "i-0502e3594373eef5e"]);
}

#[test]
fn errors_are_unescaped_stripped_and_kept_once_with_the_final_one_last() {
    let tally = hear(
        "1,,ui,error,==> amazon-ebs.node: Error creating AMI: code: 403%!(PACKER_COMMA) id\n\
         1,,ui,error,==> amazon-ebs.node: \\x1b[0mwarning from apt\n\
         1,,error-count,1\n\
         1,,ui,error,\\n==> Some builds didn't complete successfully and had errors:\n\
         1,amazon-ebs.node,error,Error creating AMI: code: 403%!(PACKER_COMMA) id\n\
         1,,ui,error,--> amazon-ebs.node: Error creating AMI: code: 403%!(PACKER_COMMA) id\n",
    );
    assert_eq!(tally.errors().last().map(String::as_str), Some("Error creating AMI: code: 403, id"));
    assert_eq!(tally.errors().len(), 2);
}

#[test]
fn a_packer_that_names_no_error_is_quoted() {
    let tally = hear("one\ntwo\npanic: oh no\n\ngoroutine 1\na\nb\n");
    assert_eq!(tally.errors(), ["two", "panic: oh no", "goroutine 1", "a", "b"]);
    assert_eq!(tally.progress, "", "a log is no progress");
}

#[test]
fn terminal_control_is_taken_out() {
    assert_eq!(parse("1,,ui,say,\u{1b}[1;32m==> a: ok\u{1b}[0m\u{7}"), Line::Say("==> a: ok".into()));
    assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\n"), Line::Plain("red".into()));
    assert_eq!(plain("ends in \u{1b}["), Line::Plain("ends in ".into()));
}

#[test]
fn text_is_masked_and_ids_are_not() {
    let mut tally = Tally::default();
    let mask = |text: &str| text.replace("us-east-1", "***");
    tally.hear(parse("1,a,artifact,0,id,us-east-1:ami-aee825b876bf72c2a"), &mask);
    let heard = tally.hear(parse("1,,ui,error,no capacity in us-east-1"), &mask);
    assert_eq!(heard.text.as_deref(), Some("no capacity in ***"));
    assert_eq!(tally.errors(), ["no capacity in ***"]);
    assert_eq!(tally.progress, "no capacity in ***");
    assert_eq!(tally.artifacts()[0].region, "us-east-1");
}

#[test]
fn a_cut_line_does_not_end_in_half_an_escape() {
    let Line::Say(text) = read(b"1,,ui,say,pass%!(PACKER_CO", false, true) else {
        panic!("a line for people")
    };
    assert_eq!(text, "pass");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut tally = Tally::default();
    for n in 0..10_000 {
        let line = format!("1,,ui,error,{n} {}", "x".repeat(5000));
        tally.hear(parse(&line), &str::to_owned);
        let line = format!("1,,ui,say,==> a: Instance ID: i-{n:017}");
        tally.hear(parse(&line), &str::to_owned);
    }
    assert_eq!(tally.errors().len(), MOST_ERRORS);
    assert!(tally.errors().iter().all(|error| error.len() <= LONGEST_ERROR));
    assert_eq!(tally.resources().len(), MOST_RESOURCES);
}

#[test]
fn cuts_between_characters() {
    assert_eq!(cut("äää", 6), "äää");
    assert_eq!(cut("ääää", 7), "ää…");
}
