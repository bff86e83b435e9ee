//! The Jinja dialect of checkpoints. Expected texts of whole templates are those of transformers.

use serde_json::json;

use super::*;

fn special() -> SpecialTokens {
    SpecialTokens { bos: Some("<s>".into()), eos: Some("</s>".into()), ..SpecialTokens::default() }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, &special()).unwrap()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn render(source: &str, messages: &[Value]) -> Result<String, TemplateError> {
    template(source).render(messages, true, &Map::new())
}

const CHATML: &str = "{% for message in messages %}\n    {% if loop.first and message['role'] != 'system' %}\n\
    {{ '<|im_start|>system\nBe good.<|im_end|>\n' }}\n    {% endif %}\n{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n' }}\n{% endfor %}\n{% if add_generation_prompt %}\n\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn chatml_renders_as_in_transformers() {
    let messages = [user("Hi"), json!({"role": "assistant", "content": "<b>"}), user("x & y")];
    let expected = "<|im_start|>system\nBe good.<|im_end|>\n\n<|im_start|>user\nHi<|im_end|>\n\n\
        <|im_start|>assistant\n<b><|im_end|>\n\n<|im_start|>user\nx & y<|im_end|>\n\n<|im_start|>assistant\n";
    assert_eq!(render(CHATML, &messages).unwrap(), expected);
}

#[test]
fn python_methods_work() {
    let source = "{{ messages[0]['content'].strip().split('|')[-1].upper() }}{{ messages[0].get('x', 'y') }}";
    assert_eq!(render(source, &[user("  a|b ")]).unwrap(), "By");
    let source = "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}";
    assert_eq!(render(source, &[user("a")]).unwrap(), "role=user;content=a;");
    assert_eq!(render("{{ messages[0].content.startswith('a') }}", &[user("ab")]).unwrap(), "True");
}

#[test]
fn loop_controls_and_namespaces_work() {
    let source = "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}\
        {% if i == 4 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
    assert_eq!(render(source, &[]).unwrap(), "5");
}

#[test]
fn generation_blocks_are_transparent() {
    let source =
        "a{%- generation -%} {{ messages[0].content }} {%- endgeneration %}{% generation %}b{% endgeneration %}";
    assert_eq!(render(source, &[user("x")]).unwrap(), "axb");
}

#[test]
fn tojson_is_python_s() {
    let json = |call: &str| {
        render(&format!("{{{{ messages[0].v | {call} }}}}"), &[json!({"v": {"b": ["<é>", 1.0], "a": null, "e": []}})])
    };
    assert_eq!(json("tojson").unwrap(), r#"{"b": ["<é>", 1.0], "a": null, "e": []}"#);
    assert_eq!(json("tojson(sort_keys=true)").unwrap(), r#"{"a": null, "b": ["<é>", 1.0], "e": []}"#);
    assert_eq!(json("tojson(ensure_ascii=true)").unwrap(), r#"{"b": ["<\u00e9>", 1.0], "a": null, "e": []}"#);
    assert_eq!(json("tojson(separators=(',', ':'))").unwrap(), r#"{"b":["<é>",1.0],"a":null,"e":[]}"#);
    let indented = "{\n  \"b\": [\n    \"<é>\",\n    1.0\n  ],\n  \"a\": null,\n  \"e\": []\n}";
    assert_eq!(json("tojson(indent=2)").unwrap(), indented);
}

#[test]
fn tools_are_none_and_specials_are_there() {
    let source = "{% if tools is not none %}tools{% endif %}{% if tools %}tools{% endif %}\
        {{ bos_token }}{{ eos_token }}{{ pad_token }}{% if documents is none %}!{% endif %}";
    assert_eq!(render(source, &[]).unwrap(), "<s></s>!");
}

#[test]
fn keyword_arguments_reach_the_template() {
    let extra = json!({"enable_thinking": false}).as_object().unwrap().clone();
    let source = "{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}";
    assert_eq!(template(source).render(&[], true, &extra).unwrap(), "no");
}

#[test]
fn a_refusal_carries_the_template_s_words() {
    let source = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}";
    assert_eq!(render(source, &[user("x")]), Err(TemplateError::Refused("system first".into())));
}

#[test]
fn endless_templates_end() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    assert_eq!(render(source, &[]), Err(TemplateError::TooMuch));
    let source = "{% set x = 'x' * 100000 %}{% for a in range(9999) %}{{ x }}{% endfor %}";
    assert_eq!(render(source, &[]), Err(TemplateError::TooMuch));
}

#[test]
fn a_template_that_cannot_be_parsed_is_an_error_with_its_line() {
    let error = ChatTemplate::new("ok\n{% if %}", &special()).unwrap_err();
    assert!(matches!(&error, TemplateError::Syntax(what) if what.contains("line 2")), "{error}");
}

#[test]
fn parts_are_joined_for_templates_that_want_text() {
    let message = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    assert!(!template(CHATML).wants_parts());
    assert_eq!(render("{{ messages[0].content }}", &[message]).unwrap(), "a\nb");
}

#[test]
fn text_becomes_a_part_for_templates_that_want_parts() {
    let source =
        "{% for part in messages[0].content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}{% endfor %}";
    assert!(template(source).wants_parts());
    assert_eq!(render(source, &[user("a")]).unwrap(), "[a]");
}

#[test]
fn strftime_now_gives_this_year() {
    let year: i32 = render("{{ strftime_now('%Y') }}", &[]).unwrap().parse().unwrap();
    assert!((2024..3000).contains(&year));
}
