//! Memory of the current context's device. There is none behind the addresses.

use std::ffi::c_uchar;

use super::{code::Code, context::current, exports, process::with};
use crate::ffi::Out;

exports! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let context = current()?;
        let usage = with(|process| process.usage(context))?;
        free.set(usage.free as usize)?;
        Ok(total.set((usage.total - usage.reserved) as usize)?)
    }
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) {
        let context = current()?;
        Ok(address.set(with(|process| process.allocate(context, bytes as u64))?)?)
    }
    fn cuMemsetD8_v2(address: u64, _value: c_uchar, bytes: usize) {
        let context = current()?;
        with(|process| {
            process.view(process.device_of(context)?)?;
            if process.holds(address, bytes as u64) { Ok(()) } else { Err(Code::INVALID_VALUE) }
        })
    }
    fn cuMemFree_v2(address: u64) {
        current()?;
        with(|process| process.free(address))
    }
}
