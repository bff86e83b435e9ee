//! Every rule of the boundary, each broken once.

use super::*;

const BOUNDS: Bounds = Bounds { vocab: 100, max_model_len: 16, max_logprobs: 5 };

fn draft() -> Draft {
    Draft { prompt: vec![1, 2, 3], sampling: Sampling::default(), stopping: Stopping::default(), num_logprobs: None }
}

fn check(change: impl FnOnce(&mut Draft)) -> Result<Request, RequestError> {
    let mut draft = draft();
    change(&mut draft);
    Request::new(draft, BOUNDS)
}

/// The parameter and the message of a refusal.
fn refusal(change: impl FnOnce(&mut Draft)) -> (&'static str, String) {
    let error = check(change).expect_err("the draft breaks a rule");
    (error.param(), error.to_string())
}

#[test]
fn lengths_are_resolved() {
    let request = check(|_| ()).unwrap();
    assert_eq!(request.max_tokens(), 13, "no limit means the rest of the context");
    assert_eq!(request.max_kv_tokens(), 15);
    let request = check(|draft| draft.stopping.max_tokens = Some(13)).unwrap();
    assert_eq!(request.max_tokens(), 13);
    let request = check(|draft| draft.prompt = vec![0; 15]).unwrap();
    assert_eq!(request.max_tokens(), 1);
}

#[test]
fn prompts_are_checked() {
    assert_eq!(refusal(|draft| draft.prompt.clear()).0, "prompt");
    let (param, text) = refusal(|draft| draft.prompt.push(100));
    assert_eq!((param, &*text), ("prompt", "`prompt`: token id 100 is not below the vocabulary's 100"));
}

#[test]
fn lengths_are_checked() {
    let (param, text) = refusal(|draft| draft.prompt = vec![0; 16]);
    assert_eq!(param, "prompt");
    assert!(text.ends_with("the prompt has 16 and the output asks for at least 1"), "{text}");
    let (param, text) = refusal(|draft| draft.stopping.max_tokens = Some(14));
    assert_eq!(param, "max_tokens");
    assert!(text.starts_with("the context holds 16 tokens"), "{text}");
    assert_eq!(refusal(|draft| draft.stopping.max_tokens = Some(usize::MAX)).0, "max_tokens");
    let (param, text) = refusal(|draft| draft.stopping.max_tokens = Some(0));
    assert_eq!((param, &*text), ("max_tokens", "`max_tokens` is 0, allowed is 1 to 13"));
    assert_eq!(refusal(|draft| draft.stopping.min_tokens = 14).0, "min_tokens");
}

#[test]
fn floats_are_checked() {
    type Field = fn(&mut Sampling) -> &mut f32;
    let fields: [(&str, Field, &[f32], &[f32]); 6] = [
        ("temperature", |s| &mut s.temperature, &[-0.1], &[0.0, 1e9]),
        ("top_p", |s| &mut s.top_p, &[0.0, -0.1, 1.1], &[1e-9, 1.0]),
        ("min_p", |s| &mut s.min_p, &[-0.1, 1.1], &[0.0, 1.0]),
        ("presence_penalty", |s| &mut s.presence_penalty, &[-2.1, 2.1], &[-2.0, 2.0]),
        ("frequency_penalty", |s| &mut s.frequency_penalty, &[-2.1, 2.1], &[-2.0, 2.0]),
        ("repetition_penalty", |s| &mut s.repetition_penalty, &[0.0, -1.0], &[1e-9, 1e9]),
    ];
    for (param, field, refused, taken) in fields {
        for value in refused.iter().chain(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]) {
            assert_eq!(refusal(|draft| *field(&mut draft.sampling) = *value).0, param);
        }
        for value in taken {
            assert!(check(|draft| *field(&mut draft.sampling) = *value).is_ok(), "{param} {value}");
        }
    }
}

#[test]
fn ranges_print_as_mathematics() {
    let (_, text) = refusal(|draft| draft.sampling.top_p = 0.0);
    assert_eq!(text, "`top_p` is 0, allowed is (0, 1]");
    let (_, text) = refusal(|draft| draft.sampling.temperature = f32::NAN);
    assert_eq!(text, "`temperature` is NaN, allowed is [0, inf)");
}

#[test]
fn lists_are_checked() {
    assert_eq!(refusal(|draft| draft.sampling.logit_bias = vec![(100, 0.0)]).0, "logit_bias");
    assert_eq!(refusal(|draft| draft.sampling.logit_bias = vec![(0, f32::NAN)]).0, "logit_bias");
    assert_eq!(refusal(|draft| draft.sampling.logit_bias = vec![(0, 100.5)]).0, "logit_bias");
    assert_eq!(refusal(|draft| draft.sampling.logit_bias = vec![(0, 0.0); 101]).0, "logit_bias");
    assert_eq!(refusal(|draft| draft.stopping.stop_tokens = vec![100]).0, "stop_token_ids");
    assert_eq!(refusal(|draft| draft.stopping.stop_tokens = vec![0; 101]).0, "stop_token_ids");
    assert_eq!(refusal(|draft| draft.num_logprobs = Some(6)).0, "logprobs");
    assert!(check(|draft| draft.num_logprobs = Some(5)).is_ok());
}

#[test]
fn a_models_own_end_may_lie_outside_its_vocabulary() {
    assert!(check(|draft| draft.stopping.eos = vec![100]).is_ok());
}
