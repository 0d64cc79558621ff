//! Contexts, of which every thread has a stack.

use std::{
    cell::RefCell,
    ffi::{c_int, c_uint},
};

use super::{
    code::{Code, Result},
    device::{Ordinal, index},
    exports,
    process::with,
};
use crate::ffi::Out;

/// `CUcontext`; zero is none.
type Context = usize;

thread_local!(static STACK: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) });

exports! {
    fn cuDevicePrimaryCtxRetain(context: Out<Context>, device: Ordinal) {
        with(|process| Ok(context.set(process.retain_primary_context(index(device)?)?)?))
    }
    fn cuDevicePrimaryCtxRelease(device: Ordinal) { with(|process| process.release_primary_context(index(device)?)) }
    fn cuDevicePrimaryCtxRelease_v2(device: Ordinal) { with(|process| process.release_primary_context(index(device)?)) }
    fn cuDevicePrimaryCtxGetState(device: Ordinal, flags: Out<c_uint>, active: Out<c_int>) {
        let is_active = with(|process| Ok(process.primary_context(index(device)?).is_some()))?;
        flags.set(0)?;
        Ok(active.set(c_int::from(is_active))?)
    }
    /// It becomes the thread's current one.
    fn cuCtxCreate_v2(context: Out<Context>, _flags: c_uint, device: Ordinal) {
        let number = with(|process| process.create_context(index(device)?, false))?;
        STACK.with_borrow_mut(|stack| stack.push(number));
        Ok(context.set(number)?)
    }
    fn cuCtxDestroy_v2(context: Context) {
        STACK.with_borrow_mut(|stack| stack.pop_if(|top| *top == context));
        with(|process| process.destroy_context(context))
    }
    fn cuCtxSetCurrent(context: Context) {
        if context != 0 {
            exists(context)?;
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    }
    fn cuCtxGetCurrent(context: Out<Context>) { Ok(context.set(top().unwrap_or(0))?) }
    fn cuCtxPushCurrent_v2(context: Context) {
        exists(context)?;
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    }
    fn cuCtxPopCurrent_v2(context: Out<Context>) {
        let popped = STACK.with_borrow_mut(|stack| stack.pop()).ok_or(Code::INVALID_CONTEXT)?;
        Ok(context.set(popped)?)
    }
    fn cuCtxGetDevice(device: Out<Ordinal>) {
        let context = current()?;
        Ok(device.set(with(|process| process.device_of(context))? as Ordinal)?)
    }
    fn cuCtxSynchronize() {
        let context = current()?;
        with(|process| process.view(process.device_of(context)?).map(drop))
    }
}

/// The calling thread's context.
pub fn current() -> Result<Context> {
    top().ok_or(Code::INVALID_CONTEXT)
}

fn top() -> Option<Context> {
    STACK.with_borrow(|stack| stack.last().copied())
}

fn exists(context: Context) -> Result<()> {
    with(|process| if process.has_context(context) { Ok(()) } else { Err(Code::INVALID_CONTEXT) })
}
