//! How a volume's files are cut.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the chunks of a volume are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutPolicy {
    /// By content where a file is written as a stream, in blocks elsewhere.
    #[default]
    Auto,
    /// By content.
    Cdc,
    /// In aligned blocks of [`crate::chunk::cut::BLOCK`] bytes.
    Fixed,
}

impl fmt::Display for CutPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CutPolicy::Auto => "auto",
            CutPolicy::Cdc => "cdc",
            CutPolicy::Fixed => "fixed",
        })
    }
}

impl FromStr for CutPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<CutPolicy> {
        match text {
            "auto" => Ok(CutPolicy::Auto),
            "cdc" => Ok(CutPolicy::Cdc),
            "fixed" => Ok(CutPolicy::Fixed),
            _ => Err(Error::Invalid(
                "the cutting policy is one of auto, cdc and fixed",
            )),
        }
    }
}
