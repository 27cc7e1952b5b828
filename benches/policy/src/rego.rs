//! In Rego, the language of Open Policy Agent. Names and suffixes are looked up in objects, as its manual advises.

use std::fmt::Write as _;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::RegoVM;
use regorus::{Rc, Value};

use crate::{COUNT, Question};

const ENTRY: &str = "data.egress.allow";

pub struct Engine(RegoVM);

impl Engine {
    fn new(text: String, data: &str) -> Self {
        let mut engine = regorus::Engine::new();
        engine.add_policy("egress.rego".to_owned(), text).expect("a policy that parses");
        let data = Value::from_json_str(data).expect("data");
        engine.add_data(data.clone()).expect("data");
        let compiled = engine.compile_with_entrypoint(&Rc::from(ENTRY)).expect("a policy that compiles");
        let program = Compiler::compile_from_policy(&compiled, &[ENTRY]).expect("a program");
        let mut machine = RegoVM::new_with_policy(compiled);
        machine.load_program(program);
        machine.set_data(data).expect("data");
        Self(machine)
    }

    pub fn ten_rules() -> Self {
        let mut text = "package egress\nimport rego.v1\ndefault allow := false\n\
            allow if { permitted; not forbidden }\n"
            .to_owned();
        for n in 0..8 {
            writeln!(
                text,
                "permitted if {{ input.host == \"api{n}.example.com\"; input.scheme == \"https\"; input.port == 443; \
                 input.method in {{\"GET\", \"POST\"}}; startswith(input.path, \"/v1/\") }}"
            )
            .expect("writing to memory");
        }
        text.push_str(
            "permitted if { endswith(input.host, \".example.org\"); input.scheme == \"https\"; input.port == 443; \
             input.method == \"GET\" }\n\
             forbidden if { endswith(input.host, \".example.com\"); contains(input.path, \"/admin/\") }\n",
        );
        Self::new(text, "{}")
    }

    pub fn many_hosts() -> Self {
        let text = "package egress\nimport rego.v1\ndefault allow := false\n\
            allow if { input.scheme == \"https\"; input.port == 443; data.names[input.host]; not forbidden }\n\
            forbidden if { labels := split(input.host, \".\"); some i, _ in labels; i > 0; \
            data.suffixes[concat(\".\", array.slice(labels, i, count(labels)))] }\n";
        let names: Vec<String> = (0..COUNT).map(|n| format!("\"host{n}.example.com\": true")).collect();
        let suffixes: Vec<String> = (0..COUNT).map(|n| format!("\"blocked{n}.example.net\": true")).collect();
        let data =
            format!("{{\"names\": {{{}}}, \"suffixes\": {{{}}}}}", names.join(", "), suffixes.join(", "));
        Self::new(text.to_owned(), &data)
    }

    pub fn allows(&mut self, asked: &Value) -> bool {
        self.0.set_input(asked.clone());
        self.0.execute_entry_point_by_name(ENTRY).expect("an answer") == Value::Bool(true)
    }
}

pub fn question(asked: &Question) -> Value {
    let text = format!(
        "{{\"host\": \"{}\", \"path\": \"{}\", \"method\": \"{}\", \"scheme\": \"https\", \"port\": 443}}",
        asked.host, asked.path, asked.method
    );
    Value::from_json_str(&text).expect("a question")
}
