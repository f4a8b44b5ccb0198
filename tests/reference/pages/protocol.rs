//! The page of the contract: services, messages and enums of `proto/`, with the comments that stand there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use homeward_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

use super::head;

/// Numbers of fields in descriptor.proto, of which a path to a comment is made.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const OF_MESSAGE: (i32, i32, i32) = (2, 3, 4);
const METHODS_OR_VALUES: i32 = 2;

/// Every service and message of `homeward.v1`.
pub(crate) fn page() -> String {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("what build.rs has compiled").file;
    let own: Vec<File> = files.iter().filter(|file| file.package() == "homeward.v1").map(File::new).collect();
    assert!(own.iter().any(|file| !file.comments.is_empty()), "the contract was compiled without its comments");
    let mut text = head("Protocol", "proto/homeward/v1/*.proto");
    text.push_str(
        "Package `homeward.v1`, over HTTP/2. Agents call Enrolment, Sync and Login with mutual TLS 1.3 at `agent_url`; ops call\n\
         Admin over the broker's Unix socket. Who may call what is one table, `broker/src/grpc/authorization.rs`: a method that is\n\
         not in it is nobody's. Errors are a `google.rpc.Status` with an `ErrorInfo` of domain `homeward`, by whose reason programs\n\
         act; [troubleshooting](../troubleshooting.md) has the sentences. The health service of gRPC is on, reflection is off.\n",
    );
    for file in &own {
        for (index, service) in file.proto.service.iter().enumerate() {
            file.service(&mut text, service, &[SERVICES, place(index)]);
        }
    }
    for file in &own {
        let _ = writeln!(text, "\n## Messages of {}", file.proto.name());
        for (index, message) in file.proto.message_type.iter().enumerate() {
            file.message(&mut text, message, (message.name(), &[MESSAGES, place(index)]));
        }
        for (index, one) in file.proto.enum_type.iter().enumerate() {
            file.choice(&mut text, one, (one.name(), &[ENUMS, place(index)]));
        }
    }
    text
}

struct File<'a> {
    proto: &'a FileDescriptorProto,
    comments: BTreeMap<&'a [i32], &'a str>,
}

impl<'a> File<'a> {
    fn new(proto: &'a FileDescriptorProto) -> Self {
        let said = proto.source_code_info.iter().flat_map(|info| &info.location);
        let comments = said.filter_map(|said| Some((said.path.as_slice(), said.leading_comments.as_deref()?)));
        Self { proto, comments: comments.collect() }
    }

    fn comment(&self, path: &[i32]) -> String {
        let comment = self.comments.get(path).copied().unwrap_or_default();
        escaped(&comment.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn service(&self, text: &mut String, service: &ServiceDescriptorProto, path: &[i32]) {
        let _ = writeln!(text, "\n## {}\n\n{}\n", service.name(), self.comment(path));
        text.push_str("| method | request | response | |\n|---|---|---|---|\n");
        for (index, method) in service.method.iter().enumerate() {
            let path = [path, &[METHODS_OR_VALUES, place(index)]].concat();
            let stream = |flag: bool| if flag { "stream of " } else { "" };
            let request = format!("{}{}", stream(method.client_streaming()), link(method.input_type()));
            let response = format!("{}{}", stream(method.server_streaming()), link(method.output_type()));
            let _ = writeln!(text, "| `{}` | {request} | {response} | {} |", method.name(), self.comment(&path));
        }
    }

    fn message(&self, text: &mut String, message: &DescriptorProto, (name, path): (&str, &[i32])) {
        let _ = writeln!(text, "\n### {name}\n\n{}", self.comment(path));
        let (fields, messages, enums) = OF_MESSAGE;
        if !message.field.is_empty() {
            text.push_str("\n| field | | type | |\n|---|--:|---|---|\n");
        }
        for (index, field) in message.field.iter().enumerate() {
            let comment = self.comment(&[path, &[fields, place(index)]].concat());
            let choice = field.oneof_index.filter(|_| !field.proto3_optional()).and_then(|index| {
                let choice = message.oneof_decl.get(usize::try_from(index).ok()?)?;
                Some(format!("One of `{}`. ", choice.name()))
            });
            let choice = choice.unwrap_or_default();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {choice}{comment} |",
                field.name(),
                field.number(),
                kind(field, message)
            );
        }
        let inner = message.nested_type.iter().enumerate();
        for (index, nested) in inner.filter(|(_, nested)| !is_map_entry(nested)) {
            let path = [path, &[messages, place(index)]].concat();
            self.message(text, nested, (&format!("{name}.{}", nested.name()), &path));
        }
        for (index, one) in message.enum_type.iter().enumerate() {
            let path = [path, &[enums, place(index)]].concat();
            self.choice(text, one, (&format!("{name}.{}", one.name()), &path));
        }
    }

    fn choice(&self, text: &mut String, one: &EnumDescriptorProto, (name, path): (&str, &[i32])) {
        let _ = writeln!(text, "\n### {name}\n\n{}\n\n| value | | |\n|---|--:|---|", self.comment(path));
        for (index, value) in one.value.iter().enumerate() {
            let comment = self.comment(&[path, &[METHODS_OR_VALUES, place(index)]].concat());
            let _ = writeln!(text, "| `{}` | {} | {comment} |", value.name(), value.number());
        }
    }
}

fn place(index: usize) -> i32 {
    i32::try_from(index).expect("a contract of some dozen messages")
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn kind(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let last = field.type_name().rsplit('.').next().unwrap_or_default();
    let entry = message.nested_type.iter().find(|nested| is_map_entry(nested) && nested.name() == last);
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map of {} to {}", kind(key, message), kind(value, message));
    }
    let name = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => link(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        _ if field.proto3_optional() => format!("optional {name}"),
        _ => name,
    }
}

/// A message or enum of this page, or one that everybody knows.
fn link(name: &str) -> String {
    match name.strip_prefix(".homeward.v1.") {
        Some(own) => format!("[{own}](#{})", own.to_lowercase().replace('.', "")),
        None => format!("`{}`", name.trim_start_matches('.')),
    }
}

fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}
