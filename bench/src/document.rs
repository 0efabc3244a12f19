//! Tables in a document: each tool writes its own section and leaves the rest.
//!
//! A section lies between `<!-- NAME -->` and `<!-- end of NAME -->`.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Puts `text` in the place of a section of the file at `path`.
///
/// # Errors
/// The file cannot be read or written, or has no such section.
pub fn replace(path: &Path, section: &str, text: &str) -> Result<()> {
    let all =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = replaced(&all, section, text).with_context(|| {
        format!(
            "{} has no section between <!-- {section} --> and its end",
            path.display()
        )
    })?;
    fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(all: &str, section: &str, text: &str) -> Option<String> {
    let (head, end) = (
        format!("<!-- {section} -->\n"),
        format!("<!-- end of {section} -->\n"),
    );
    let begin = all.find(&head)? + head.len();
    let len = all[begin..].find(&end)?;
    let (before, after) = (&all[..begin], &all[begin + len..]);
    Some(format!("{before}\n{}\n\n{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let all = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n<!-- y -->\n<!-- end of y -->\n";
        let once = replaced(all, "x", "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n<!-- y -->\n<!-- end of y -->\n"
        );
        assert_eq!(replaced(&once, "x", "new").unwrap(), once);
        assert_eq!(replaced(all, "z", ""), None);
    }
}
