//! Cryptographic randomness.

/// Where keys and nonces come from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with unpredictable bytes.
    ///
    /// # Panics
    /// When the machine cannot give randomness: going on would make keys or
    /// nonces that others can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// The random source of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the operating system gives no randomness: {error}");
        }
    }
}
