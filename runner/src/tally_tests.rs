//! Tests of `tally` with output of Packer 1.6.6 and 1.16.

use super::*;
use crate::lines::{parse, read};

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
fn a_provisioner_cannot_announce_images_or_regions() {
    let lines = |text: &str| {
        format!("1,,ui,say,==> a.b: AMI: {text}\n1,,ui,message,    a.b: Copying to: eu-west-1\n")
    };
    let begun = "1,,ui,say,==> a.b: Provisioning with shell script: x.sh\n";
    let (printed, real) = (lines("ami-00000000000000bad"), lines("ami-aee825b876bf72c2a"));
    assert_eq!(ids(&hear(&format!("{begun}{printed}"))), Vec::<&str>::new());
    for text in ["Stopping the source instance...", "Creating AMI node-1 from instance i-0502e3594373eef5d"] {
        let done = format!("1,,ui,say,==> a.b: {text}\n");
        let tally = hear(&format!("{begun}{printed}{done}{real}"));
        assert_eq!(ids(&tally), ["ami-aee825b876bf72c2a", "eu-west-1"], "{text}");
    }
    assert_eq!(ids(&hear(&real)), ["ami-aee825b876bf72c2a", "eu-west-1"], "a build without provisioners");
}

#[test]
fn errors_are_unescaped_stripped_and_kept_once_with_the_cause_first() {
    let tally = hear(
        "1,,ui,error,==> amazon-ebs.node: Error creating AMI: code: 403%!(PACKER_COMMA) id\n\
         1,,ui,error,==> amazon-ebs.node: \u{1b}[0mwarning from apt\n\
         1,,error-count,1\n\
         1,,ui,error,\\n==> Some builds didn't complete successfully and had errors:\n\
         1,amazon-ebs.node,error,Error creating AMI: code: 403%!(PACKER_COMMA) id\n\
         1,,ui,error,--> amazon-ebs.node: Error creating AMI: code: 403%!(PACKER_COMMA) id\n",
    );
    assert_eq!(tally.errors(), ["Error creating AMI: code: 403, id", "warning from apt"]);
    assert_eq!(tally.build(), Some("amazon-ebs.node"));
}

#[test]
fn a_packer_that_names_no_error_is_quoted() {
    let tally = hear("one\ntwo\npanic: oh no\n\ngoroutine 1\na\nb\n");
    assert_eq!(tally.last_words(), ["two", "panic: oh no", "goroutine 1", "a", "b"]);
    assert_eq!(tally.errors(), [""; 0]);
    assert_eq!(tally.progress, "", "a log line is not progress");
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

/// Two parallel builds as Packer 1.16 prints them. The script of the second build fails first.
const FAILING: &str = r"1,,ui,say,==> amazon-ebs.x86: Provisioning with shell script: scripts/10-kernel.sh
1,,ui,say,==> amazon-ebs.arm: Provisioning with shell script: /tmp/packer-shell42
1,,ui,say,==> amazon-ebs.x86: all is well
1,,ui,error,==> amazon-ebs.arm: ##                12.0%
1,,ui,say,==> amazon-ebs.arm: ERROR: mirror.example.com refused us: 403
1,,ui,say,==> amazon-ebs.arm: Provisioning step had errors: Running the cleanup provisioner%!(PACKER_COMMA) if present...
1,,ui,say,==> amazon-ebs.arm: Terminating the source AWS instance...
1,,ui,error,==> amazon-ebs.arm: Error terminating instance%!(PACKER_COMMA) may still be around: RequestExpired
1,,ui,error,Build 'amazon-ebs.arm' errored after 5 seconds: Script exited with non-zero exit status: 7
1,,ui,error,Build 'amazon-ebs.x86' errored after 9 seconds: Error creating AMI: quota
1,,error-count,2
1,,ui,error,
==> Some builds didn't complete successfully and had errors:
1,amazon-ebs.x86,error,Error creating AMI: quota
1,,ui,error,--> amazon-ebs.x86: Error creating AMI: quota
1,amazon-ebs.arm,error,Script exited with non-zero exit status: 7
1,,ui,error,--> amazon-ebs.arm: Script exited with non-zero exit status: 7
";

#[test]
fn the_first_failure_is_the_cause_and_its_script_is_quoted() {
    let tally = hear(FAILING);
    let script = "Script exited with non-zero exit status: 7";
    let instance = "Error terminating instance, may still be around: RequestExpired";
    assert_eq!(tally.errors(), [script, "Error creating AMI: quota", instance]);
    assert_eq!(tally.build(), Some("amazon-ebs.arm"));
    assert_eq!(tally.output(), ["##                12.0%", "ERROR: mirror.example.com refused us: 403"]);
}

#[test]
fn a_build_that_is_stopped_says_where_it_was() {
    let stopped = FAILING.lines().take(5).collect::<Vec<_>>().join("\n")
        + "\n1,,ui,error,Cancelling build after receiving terminated\n\
           1,,ui,say,==> amazon-ebs.arm: Terminating the source AWS instance...\n\
           1,,ui,error,Build 'amazon-ebs.arm' errored after 5 seconds: build was cancelled\n\
           1,amazon-ebs.arm,error,build was cancelled\n";
    let tally = hear(&stopped);
    assert_eq!((tally.errors(), tally.build()), (Vec::new(), Some("amazon-ebs.arm")));
    assert_eq!(tally.output().last().map(String::as_str), Some("ERROR: mirror.example.com refused us: 403"));
    let after = hear(
        "1,,ui,say,==> a.b: Provisioning with shell script: x\n\
                      1,,ui,say,==> a.b: done\n\
                      1,,ui,say,==> a.b: Stopping the source instance...\n\
                      1,,ui,error,==> a.b: Error creating AMI: quota\n\
                      1,a.b,error,Error creating AMI: quota\n",
    );
    assert_eq!((after.errors().len(), after.output()), (1, Vec::new()), "the script is not the cause");
}

#[test]
fn a_heading_and_its_details_are_one_error() {
    let tally = hear(
        "1,,ui,error,Failed getting the \"github.com/hashicorp/amazon\" plugin:\n\
                      1,,ui,error,2 errors occurred:\\n\\t* Plugin host rate limited the plugin getter\n",
    );
    assert_eq!(tally.errors().len(), 1);
    assert!(tally.errors()[0].contains("plugin:\n2 errors occurred:"), "{:?}", tally.errors());
}

#[test]
fn builds_of_any_name_announce_what_they_make_and_the_regions_they_copy_to() {
    for name in ["x: y.amazon-ebs.z", "a, b.amazon-ebs.c", "null.here"] {
        let escaped = name.replace(',', "%!(PACKER_COMMA)");
        let text = MODERN.replace("==> amazon-ebs.node", &format!("==> {escaped}"));
        let more = format!(
            "1,,ui,message,    {escaped}: Copying to: eu-west-1\n\
             1,,ui,say,==> {escaped}: Provisioning with shell script: x\n\
             1,,ui,message,    {escaped}: foo: Instance ID: i-00000000000000bad\n"
        );
        let tally = hear(&(text + &more));
        let last = tally.resources().last().map(|resource| (resource.kind, resource.id.as_str()));
        assert_eq!((tally.resources().len(), last), (5, Some((ResourceKind::Region, "eu-west-1"))), "{name}");
    }
}

#[test]
fn an_error_of_several_lines_is_one_error() {
    let tally = hear(
        "1,,ui,error,==> a.b: Error launching source instance: No room\\n==> a.b: \tstatus code: 400\n\
         1,a.b,error,Error launching source instance: No room\\n\tstatus code: 400\n",
    );
    assert_eq!(tally.errors(), ["Error launching source instance: No room\n\tstatus code: 400"]);
}

#[test]
fn an_error_of_the_clean_up_is_not_the_cause() {
    let tally = hear(
        "1,,ui,error,==> a.b: Error Copying AMI (ami-1) to region (ap-south-1): InvalidRequest\n\
         1,,ui,error,==> a.b: Error deregistering existing AMI: UnauthorizedOperation\n\
         1,a.b,error,Error deregistering existing AMI: UnauthorizedOperation\n",
    );
    assert!(tally.errors()[0].starts_with("Error Copying AMI"), "{:?}", tally.errors());
    assert_eq!((tally.errors().len(), tally.build()), (2, Some("a.b")));
}
