use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Bytes;
use domain::Inventory;
use engine::{DeviceStatus, Handle};
use jiff::Timestamp;
use recipes::{advice, models::HubCache};
use store::{Accounts, Audit};
use tokio::sync::{Semaphore, broadcast::error::RecvError, watch};

use crate::{
    Options, attempts::Attempts, audit::AuditLog, datasets::Datasets, error::Result, live::Live, shares::Shares,
    studio_api,
};

/// What every handler can reach.
pub struct App {
    pub engine: Handle,
    pub accounts: Arc<Accounts>,
    pub audit: AuditLog,
    pub attempts: Attempts,
    /// Told whenever a session or token may have lost its worth; live streams look again then.
    pub credentials: watch::Sender<()>,
    pub options: Options,
    pub datasets: Arc<Datasets>,
    pub hub_cache: HubCache,
    pub openapi: Bytes,
    /// Turns true when the server is to end; live streams end then.
    pub closing: watch::Receiver<bool>,
    /// Passwords are hashed one at a time, because each hash takes 19 MiB.
    pub hashing: Semaphore,
    /// Requests that are being answered, live streams and uploads aside.
    pub answering: Semaphore,
    /// Requests whose bodies come; those of whom nobody knows have places of their own.
    pub receiving: Semaphore,
    pub receiving_strangers: Semaphore,
    pub strangers: Shares<IpAddr>,
    pub uploading: Semaphore,
    /// By name.
    pub uploaders: Shares<String>,
    /// Archives that are being sent; each keeps a thread.
    pub downloading: Arc<Semaphore>,
    /// Held while documentation is fetched.
    pub fetching_docs: tokio::sync::Mutex<()>,
    /// Held while the doctor looks.
    pub doctor: tokio::sync::Mutex<()>,
    pub live: Live,
    pub task_list: studio_api::task_list::TaskList,
    gpu_info: Mutex<Option<GpuInfo>>,
}

pub type Shared = Arc<App>;

/// The rendered answer of `GET /api/system/gpu-info` for one inventory.
struct GpuInfo {
    status: Arc<DeviceStatus>,
    body: Bytes,
}

impl App {
    pub fn new(
        engine: Handle,
        accounts: Accounts,
        audit: Audit,
        options: Options,
        openapi: Bytes,
        closing: watch::Receiver<bool>,
    ) -> App {
        let accounts = Arc::new(accounts);
        let live = Live::start(engine.clone(), options.authentication, closing.clone());
        let datasets = Arc::new(Datasets::new(engine.home().uploads(), accounts.clone(), options.upload_limit));
        App {
            engine,
            accounts,
            audit: AuditLog::start(audit),
            attempts: Attempts::default(),
            credentials: watch::Sender::new(()),
            datasets,
            hub_cache: HubCache::from_env(),
            openapi,
            closing,
            hashing: Semaphore::new(1),
            answering: Semaphore::new(ANSWERING),
            receiving: Semaphore::new(RECEIVING),
            receiving_strangers: Semaphore::new(RECEIVING_STRANGERS),
            strangers: Shares::of(PER_STRANGER),
            uploading: Semaphore::new(UPLOADING),
            uploaders: Shares::of(if options.authentication { PER_UPLOADER } else { UPLOADING }),
            downloading: Arc::new(Semaphore::new(DOWNLOADING)),
            fetching_docs: tokio::sync::Mutex::new(()),
            doctor: tokio::sync::Mutex::new(()),
            live,
            task_list: Default::default(),
            gpu_info: Mutex::new(None),
            options,
        }
    }

    /// The last readings; one without devices while detection has not answered yet.
    pub fn inventory(&self) -> Arc<Inventory> {
        match self.engine.view().devices() {
            Some(status) => status.inventory.clone(),
            None => Arc::new(Inventory {
                taken_at: Timestamp::now(),
                devices: Vec::new(),
                findings: Vec::new(),
                detection_error: None,
            }),
        }
    }

    /// Returns when there are readings, or will not be for some time. What is decided before depends on luck.
    pub async fn detected(&self) {
        let mut events = self.engine.subscribe();
        let detected = async {
            while self.engine.view().devices().is_none() && !matches!(events.recv().await, Err(RecvError::Closed)) {}
        };
        let _ = tokio::time::timeout(DETECTION, detected).await;
    }

    /// Rendered once per inventory, because pages poll it.
    pub fn gpu_info(&self) -> Bytes {
        let Some(status) = self.engine.view().devices() else {
            return studio_api::system::render(advice::GpuInfo::detecting());
        };
        let mut cached = self.gpu_info.lock().expect("rendering does not panic");
        match &*cached {
            Some(info) if Arc::ptr_eq(&info.status, &status) => info.body.clone(),
            _ => {
                let body = studio_api::system::render(advice::gpu_info(&status.inventory));
                *cached = Some(GpuInfo { status, body: body.clone() });
                body
            }
        }
    }

    /// Tells the engine what each account may have. May block.
    pub fn allowances_changed(&self) -> Result<()> {
        self.engine.set_allowances(self.accounts.allowances()?);
        Ok(())
    }

    /// Resolves when the server is to end.
    pub async fn closed(mut closing: watch::Receiver<bool>) {
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// At a time.
const ANSWERING: usize = 1024;
const RECEIVING: usize = 512;
const RECEIVING_STRANGERS: usize = 64;
/// Of one address that is not this machine's.
const PER_STRANGER: usize = 8;
const UPLOADING: usize = 16;
/// Of one person, where there are several.
const PER_UPLOADER: usize = 4;
const DOWNLOADING: usize = 6;

/// How long a submission waits for the first readings.
const DETECTION: Duration = Duration::from_secs(5);

/// How long requests under way may take to end after the shutdown signal.
pub const PATIENCE: Duration = Duration::from_secs(3);
