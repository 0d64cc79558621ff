//! Pointers that C callers hand over. Only a C caller can make a value of these types, by calling one of the exported
//! functions, and with the call it promises what the function's documentation asks for.

use std::{
    ffi::{CStr, c_char},
    ptr,
};

/// A pointer that must not be null was.
#[derive(Debug)]
pub struct Null;

/// Where an answer goes: null, or room for at least one `T`.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    pub fn set(self, value: T) -> Result<(), Null> {
        if self.0.is_null() {
            return Err(Null);
        }
        // SAFETY: the caller gave room for one value; nothing of the old one is read or dropped.
        unsafe { ptr::write_unaligned(self.0, value) };
        Ok(())
    }

    /// Of an argument that goes both ways.
    pub fn get(&self) -> Result<T, Null>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(Null);
        }
        // SAFETY: the caller filled it in, and `T` is plain data.
        Ok(unsafe { ptr::read_unaligned(self.0) })
    }

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Into an array, which the caller says has room for `capacity`. False: it has too little.
    pub fn set_all(self, capacity: usize, values: &[T]) -> bool
    where
        T: Copy,
    {
        if self.0.is_null() || capacity < values.len() {
            return false;
        }
        // SAFETY: the caller gave room for `capacity` values, which is enough; the two cannot overlap.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.0, values.len()) };
        true
    }
}

impl Out<c_char> {
    /// With the terminating zero. False: the caller has too little room for it.
    pub fn set_text(self, capacity: usize, text: &str) -> bool {
        let bytes: Vec<c_char> = text.bytes().chain([0]).map(|byte| byte as c_char).collect();
        self.set_all(capacity, &bytes)
    }
}

/// Null, or a text that ends with a zero.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    pub fn get(&self) -> Result<String, Null> {
        if self.0.is_null() {
            return Err(Null);
        }
        // SAFETY: the caller gave a text that ends with a zero.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}
