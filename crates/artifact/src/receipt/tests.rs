//! What counts for a key and what does not, and what is said about it.

use super::*;

fn resolved(title: &str) -> Resolved {
    Resolved { title: title.to_owned(), digest: Digest::of(title.as_bytes()) }
}

fn axis(name: &str, label: &str, parts: &[&str]) -> Axis {
    Axis {
        name: name.to_owned(),
        label: label.to_owned(),
        parts: parts.iter().map(|part| resolved(part)).collect(),
    }
}

fn inputs() -> Inputs {
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Inputs {
        format: 1,
        name: "flash-attn".to_owned(),
        version: Some("2.8.3".to_owned()),
        platform: "linux/amd64".to_owned(),
        sources: BTreeMap::from([("sdist".to_owned(), Digest::of(b"sdist"))]),
        recipe: texts(&[("hook", "build_wheel")]),
        axes: vec![
            axis("cuda", "cu128", &["nvcc 12.8", "cudart 12.8"]),
            axis("torch", "torch 2.9.0", &["torch-2.9.0.whl"]),
            axis("python", "cp311", &["python 3.11"]),
        ],
        build_env: texts(&[("FLASH_ATTN_CUDA_ARCHS", "90")]),
    }
}

fn changed(change: impl FnOnce(&mut Inputs)) -> Inputs {
    let mut inputs = inputs();
    change(&mut inputs);
    inputs
}

fn receipt(inputs: Inputs) -> Receipt {
    let result = Output { file: "a-1-py3-none-any.whl".to_owned(), sha256: Digest::of(b"a"), size: 1 };
    Receipt::new(inputs, result).unwrap()
}

/// A change of the inputs gives another key exactly if it is one that `why` can name.
fn check(change: impl FnOnce(&mut Inputs), expected: &str) {
    let now = changed(change);
    let reason = why(&now, &[receipt(inputs())]);
    assert_eq!(key(&now).unwrap() == key(&inputs()).unwrap(), matches!(reason, Why::Same { .. }));
    let prefix = "unlike flash-attn 2.8.3 · cu128 · torch 2.9.0 · cp311: ";
    let text = reason.to_string();
    // `#text#` is the text, with the beginning of its digest.
    let expected = expected.split('#').enumerate().map(|(number, text)| match number % 2 {
        0 => text.to_owned(),
        _ => format!("{text} sha256:{}", &Digest::of(text.as_bytes()).hex()[..12]),
    });
    assert_eq!(text.strip_prefix(prefix).unwrap_or(&text), expected.collect::<String>());
}

const SAME: &str = "it was built from the same inputs, and its result is no longer there";

/// The key of these inputs is the same on every host and in every release with this format.
#[test]
fn the_key_stands() {
    assert_eq!(
        key(&inputs()).unwrap().to_string(),
        "01f1d0237daf1208a63f571ec7502a6d7b4e44432e9c0e5f5beb8032fabd7717"
    );
    assert_eq!(line(&inputs()), "flash-attn 2.8.3 · cu128 · torch 2.9.0 · cp311");
}

#[test]
fn what_does_not_count() {
    check(|_| {}, SAME);
    check(|inputs| inputs.axes.reverse(), SAME);
    check(|inputs| inputs.axes[0].parts.reverse(), SAME);
    check(|inputs| inputs.axes[0].label = "cu129".to_owned(), SAME);
    check(|inputs| inputs.axes[0].parts[0].title = "nvcc".to_owned(), SAME);
    check(|inputs| inputs.version = None, SAME);
}

#[test]
fn what_counts_and_how_it_is_said() {
    check(|inputs| inputs.format = 2, "the builder's format was 1 and is 2");
    check(
        |inputs| inputs.platform = "linux/arm64".to_owned(),
        "the platform was linux/amd64 and is linux/arm64",
    );
    check(
        |inputs| inputs.sources = BTreeMap::from([("sdist".to_owned(), Digest::of(b"other"))]),
        "the source sdist was sha256:714772a9f82b and is sha256:d9298a10d1b0",
    );
    check(
        |inputs| inputs.axes[1] = axis("torch", "torch 2.9.1", &["torch-2.9.1.whl"]),
        "the axis torch was torch 2.9.0 (#torch-2.9.0.whl#) and is torch 2.9.1 (#torch-2.9.1.whl#)",
    );
    // The label is the same, and yet it is not the same toolkit.
    check(
        |inputs| inputs.axes[0].parts[0] = resolved("nvcc 12.8.1"),
        "the axis cuda was cu128 (#nvcc 12.8#) and is cu128 (#nvcc 12.8.1#)",
    );
    check(|inputs| drop(inputs.axes[0].parts.pop()), "the axis cuda was cu128 (#cudart 12.8#) and is cu128");
    check(|inputs| drop(inputs.axes.pop()), "the axis python is gone; it was cp311 (#python 3.11#)");
    check(|inputs| inputs.axes.push(axis("extra", "x", &[])), "the axis extra is new: x");
    check(
        |inputs| drop(inputs.build_env.insert("FLASH_ATTN_CUDA_ARCHS".to_owned(), "80;90".to_owned())),
        r#"the variable FLASH_ATTN_CUDA_ARCHS was "90" and is "80;90""#,
    );
    check(|inputs| inputs.build_env.clear(), r#"the variable FLASH_ATTN_CUDA_ARCHS is gone; it was "90""#);
    check(
        |inputs| {
            inputs.recipe.insert("hook".to_owned(), "build_editable".to_owned());
            inputs.recipe.insert("script".to_owned(), "x\n".repeat(100));
        },
        &format!(
            r#"the recipe's hook was "build_wheel" and is "build_editable"; the recipe's script is new: "{}"… (sha256:{})"#,
            r"x\n".repeat(30),
            &Digest::of("x\n".repeat(100).as_bytes()).hex()[..12]
        ),
    );
}

#[test]
fn the_nearest_receipt_is_taken() {
    let far = changed(|inputs| {
        inputs.build_env.clear();
        inputs.axes.clear();
    });
    let near = changed(|inputs| inputs.build_env.clear());
    let other = changed(|inputs| inputs.name = "other".to_owned());
    let nearest = |earlier: &[&Inputs]| {
        let earlier: Vec<_> = earlier.iter().map(|inputs| receipt((*inputs).clone())).collect();
        match why(&inputs(), &earlier) {
            Why::First => None,
            Why::Same { key } => Some((key, 0)),
            Why::Differs { from, differences, .. } => Some((from, differences.len())),
        }
    };
    assert_eq!(nearest(&[]), None);
    assert_eq!(nearest(&[&other]), None);
    assert_eq!(nearest(&[&far, &near, &other]), Some((key(&near).unwrap(), 1)));
    assert_eq!(nearest(&[&near, &far]), Some((key(&near).unwrap(), 1)));
    assert_eq!(nearest(&[&far]), Some((key(&far).unwrap(), 4)));
    assert_eq!(nearest(&[&near, &inputs()]), Some((key(&inputs()).unwrap(), 0)));
}

#[test]
fn receipts_are_kept_as_text() {
    let mut whole = receipt(inputs());
    whole.log = Some(Digest::of(b"log"));
    whole.duration = 123_456;
    whole.host.insert("kernel".to_owned(), "6.1".to_owned());
    whole.report = Some(Report { glibc: Some((2, 34)), ..Report::default() });
    for receipt in [receipt(inputs()), whole] {
        let text = receipt.to_json().unwrap();
        assert_eq!(Receipt::parse(&text).unwrap(), receipt);
        assert_eq!(Receipt::parse(&text).unwrap().to_json().unwrap(), text);
    }
}

fn refuse(change: impl FnOnce(&mut serde_json::Value), message: &str) {
    let mut value = serde_json::to_value(receipt(inputs())).unwrap();
    change(&mut value);
    let found = Receipt::parse(&serde_json::to_vec(&value).unwrap()).unwrap_err().to_string();
    assert!(found.contains(message), "{found}");
}

#[test]
fn receipts_of_others_are_checked() {
    refuse(|value| value["version"] = 2.into(), "is of version 2");
    refuse(|value| value["more"] = 1.into(), "does not read");
    refuse(|value| value["inputs"]["build-env"]["X"] = "1".into(), "its inputs give");
    refuse(|value| value["key"] = Digest::of(b"").to_string().into(), "its inputs give");
    refuse(|value| value["result"]["file"] = "../x".into(), "no file name");
    refuse(|value| value["result"]["file"] = "a\nb".into(), r"a\nb");
    let twice = changed(|inputs| inputs.axes.push(inputs.axes[0].clone()));
    refuse(|value| value["inputs"] = serde_json::to_value(twice).unwrap(), "the axis `cuda` is there twice");
    for text in ["", "[]", "{}", "nul"] {
        assert!(Receipt::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Receipt::parse(&vec![b'['; 100_000]).is_err());
    assert!(matches!(Receipt::parse(&vec![b' '; 65 << 20]), Err(ReceiptError::TooLarge { .. })));
}
