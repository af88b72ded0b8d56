//! A part that most runs never need: it costs a pointer until it is first changed.

/// Makes its content when it is first changed.
#[derive(Debug)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Rare<T> {
    /// The content, if there is any.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The content, if there is any, to be changed.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The content, made if it is not there.
    pub fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Takes the content out.
    pub fn take(&mut self) -> T {
        self.0.take().map(|content| *content).unwrap_or_default()
    }
}
