//! `$FAKEGPU_DIR`: the state, the claims, and the library under the names that programs look for.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    claims::{self, Claim},
    state::State,
};

/// A machine with GPUs that are not there. Removing it is its maker's affair.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder or takes over an old one, whose claims stay. The library comes from where cargo put it for the
    /// running program, which has this crate among its dependencies.
    pub fn create(path: impl AsRef<Path>, state: &State) -> io::Result<Folder> {
        fs::create_dir_all(path.as_ref())?;
        let folder = Folder { path: path.as_ref().canonicalize()? };
        fs::create_dir_all(folder.claims_folder())?;
        fs::create_dir_all(folder.library_folder())?;
        let library = built_library()?;
        for name in ["libnvidia-ml.so.1", "libnvidia-ml.so", "libcuda.so.1", "libcuda.so"] {
            let link = folder.library_folder().join(name);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => symlink(&library, link)?,
            }
        }
        folder.write(state)?;
        Ok(folder)
    }

    /// The folder that this process was told to use.
    pub fn from_env() -> Option<Folder> {
        env::var_os("FAKEGPU_DIR").map(|path| Folder { path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an editor opens to change the machine under running programs.
    pub fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Where `libnvidia-ml.so.1` and `libcuda.so.1` are.
    pub fn library_folder(&self) -> PathBuf {
        self.path.join("lib")
    }

    fn claims_folder(&self) -> PathBuf {
        self.path.join("claims")
    }

    /// What a process needs in its environment to see these GPUs.
    pub fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut libraries = self.library_folder().into_os_string();
        if let Some(others) = env::var_os("LD_LIBRARY_PATH").filter(|others| !others.is_empty()) {
            libraries.push(":");
            libraries.push(others);
        }
        vec![("FAKEGPU_DIR", self.path.clone().into_os_string()), ("LD_LIBRARY_PATH", libraries)]
    }

    pub fn state(&self) -> io::Result<State> {
        let state = serde_json::from_slice(&fs::read(self.state_file())?);
        state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Programs see it at their next call.
    pub fn write(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(state).expect("a state has a JSON form");
        text.push(b'\n');
        claims::replace(&self.state_file(), &text)
    }

    /// Changes the state as one step among all processes that change it this way.
    ///
    /// # Panics
    /// If the folder cannot be read or written.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let _alone = self.lock().expect("the folder can be written");
        let mut state = self.state().expect("the state can be read");
        let result = change(&mut state);
        self.write(&state).expect("the state can be written");
        result
    }

    /// As if the process had allocated on the device; it ends with the process, or when the answered file is removed.
    pub fn claim(&self, pid: u32, device: &str, bytes: u64) -> io::Result<PathBuf> {
        claims::make(&self.claims_folder(), &Claim { pid, device: device.into(), bytes })
    }

    /// What live processes hold, by process id.
    pub fn claims(&self) -> Vec<Claim> {
        claims::live(&self.claims_folder())
    }

    /// Held until dropped.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(self.path.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Waits as long as the state says, which may change meanwhile, and answers the state after it. A state that cannot
    /// be read is nobody's answer: it is said aloud.
    pub(crate) fn state_after(&self, wait_seconds: impl Fn(&State) -> f64) -> Option<State> {
        let began = Instant::now();
        loop {
            let state = match self.state() {
                Ok(state) => state,
                Err(error) => {
                    eprintln!("fakegpu: {}: {error}", self.state_file().display());
                    return None;
                }
            };
            if began.elapsed().as_secs_f64() >= wait_seconds(&state) {
                return Some(state);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// `target/<profile>/deps/libfakegpu.so`, from a program in `target/<profile>` or a folder in it.
fn built_library() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    let places: Vec<PathBuf> = folders.flat_map(|folder| [folder.join("deps"), folder.to_owned()]).collect();
    let mut files = places.iter().map(|place| place.join("libfakegpu.so"));
    files.find(|file| file.is_file()).ok_or_else(|| {
        let message = format!("no libfakegpu.so near {}; build it: cargo build -p fakegpu", program.display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}
