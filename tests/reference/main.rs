//! `cargo reference`: writes the pages of docs/reference that are made of the contract, the command lines and the reference
//! configurations. A test (`tests/tidy/reference.rs`) fails while one of them is out of date.

#![expect(clippy::expect_used, reason = "a page that cannot be made is an error of whoever makes it")]

mod pages;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command says what it did")]
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in pages::all(&root) {
        #[expect(clippy::disallowed_methods, reason = "a page in a working copy, which git keeps")]
        let written = std::fs::write(root.join(page.path), page.text);
        if let Err(error) = written {
            eprintln!("reference: {} cannot be written: {error}", page.path);
            return ExitCode::FAILURE;
        }
        println!("{}", page.path);
    }
    ExitCode::SUCCESS
}
