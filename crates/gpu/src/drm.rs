//! What the kernel's graphics drivers show of every card in files, whoever made it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use domain::{Clocks, Finding, Reading};
use rustix::fs::{Access, access};

use crate::{Options, fault};

/// A graphics card as `/sys/class/drm/card0` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrmCard {
    /// `…/card0`
    pub folder: PathBuf,
    /// `…/card0/device`
    pub device: PathBuf,
    /// Such as `amdgpu`.
    pub driver: String,
    /// Such as `0000:03:00.0`.
    pub pci: String,
    /// Such as `renderD128`; `None`: it cannot compute.
    pub render_node: Option<String>,
}

/// By PCI address.
pub(crate) fn cards(options: &Options, drivers: &[&str]) -> Vec<DrmCard> {
    let entries = fs::read_dir(options.path("sys/class/drm")).into_iter().flatten().flatten();
    let mut cards: Vec<DrmCard> = entries.filter_map(|entry| card(entry.path())).collect();
    cards.retain(|card| drivers.contains(&card.driver.as_str()));
    cards.sort_by(|a, b| a.pci.cmp(&b.pci));
    cards
}

fn card(folder: PathBuf) -> Option<DrmCard> {
    // card0-DP-1 is a connector.
    let number = folder.file_name()?.to_str()?.strip_prefix("card")?;
    number.parse::<u32>().ok()?;
    let device = folder.join("device");
    let uevent = fs::read_to_string(device.join("uevent")).ok()?;
    let value =
        |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    let nodes = fs::read_dir(device.join("drm")).into_iter().flatten().flatten();
    let render_node =
        nodes.filter_map(|node| node.file_name().into_string().ok()).find(|name| name.starts_with("renderD"));
    Some(DrmCard { driver: value("DRIVER")?, pci: value("PCI_SLOT_NAME")?, folder, device, render_node })
}

impl DrmCard {
    /// The name that the card itself or the machine's list of PCI devices has.
    pub fn name(&self, options: &Options) -> Option<String> {
        text(&self.device.join("product_name")).or_else(|| {
            let id = |file: &str| text(&self.device.join(file))?.strip_prefix("0x").map(str::to_ascii_lowercase);
            pci_name(options, &id("vendor")?, &id("device")?)
        })
    }

    /// Why this user cannot compute on the card, if so.
    pub fn obstacle(&self, options: &Options) -> Option<Finding> {
        let node = self.render_node.as_ref()?;
        let path = options.path("dev/dri").join(node);
        match access(&path, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) => None,
            Err(_) => Some(fault::no_render_permission(&path)),
        }
    }

    /// Sensors, where the driver has them.
    pub fn read_sensors(&self, reading: &mut Reading) {
        let Some(hwmon) = fs::read_dir(self.device.join("hwmon")).ok().and_then(|mut folder| folder.next()?.ok())
        else {
            return;
        };
        let value = |file: &str| number(&hwmon.path().join(file));
        reading.temperature =
            ["temp1_input", "temp2_input"].into_iter().find_map(value).map(|milli| (milli / 1000) as u32);
        let microwatts = value("power1_average").or_else(|| value("power1_input"));
        reading.power = microwatts.map(|micro| micro as f64 / 1e6);
        let mhz = |file: &str| value(file).map(|hertz| (hertz / 1_000_000) as u32);
        reading.clocks = mhz("freq1_input").map(|graphics| Clocks { graphics, memory: mhz("freq2_input") });
    }
}

/// Memory of a card by process, as the processes' open files tell it.
pub(crate) struct Clients {
    /// Bytes by pid.
    pub uses: BTreeMap<u32, u64>,
    /// Whether all processes of the machine could be looked at, which takes root's rights.
    pub are_all: bool,
}

/// `regions`: what the driver calls the card's own memory, such as `vram`.
pub(crate) fn clients(options: &Options, pci: &str, regions: &[&str]) -> Clients {
    let mut clients = Clients { uses: BTreeMap::new(), are_all: true };
    let mut seen = HashSet::new();
    for process in fs::read_dir(options.path("proc")).into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let files = match fs::read_dir(process.path().join("fdinfo")) {
            Ok(files) => files,
            // One that has ended hides nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                clients.are_all = false;
                continue;
            }
        };
        for file in files.flatten() {
            let link = fs::read_link(process.path().join("fd").join(file.file_name()));
            if !link.is_ok_and(|target| target.starts_with("/dev/dri")) {
                continue;
            }
            let Some(client) = fs::read_to_string(file.path()).ok().and_then(|text| Client::parse(&text, regions))
            else {
                continue;
            };
            // A file that was inherited or duplicated is one client.
            if client.pci == pci && seen.insert(client.id) {
                *clients.uses.entry(pid).or_default() += client.bytes;
            }
        }
    }
    clients.uses.retain(|_, bytes| *bytes > 0);
    clients
}

struct Client {
    pci: String,
    id: u64,
    bytes: u64,
}

impl Client {
    /// Of the keys in the kernel's drm-usage-stats: resident memory, or the older `drm-memory-`.
    fn parse(text: &str, regions: &[&str]) -> Option<Client> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let memory = |region: &&str| {
            let resident = value(&format!("drm-resident-{region}")).or_else(|| value(&format!("drm-memory-{region}")));
            resident.and_then(bytes).unwrap_or(0)
        };
        Some(Client {
            pci: value("drm-pdev")?.to_owned(),
            id: value("drm-client-id")?.parse().ok()?,
            bytes: regions.iter().map(memory).sum(),
        })
    }
}

/// `12 KiB`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// From the list that most distributions install.
fn pci_name(options: &Options, vendor: &str, device: &str) -> Option<String> {
    let lists = ["usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"];
    let list = lists.iter().find_map(|list| fs::read(options.path(list)).ok())?;
    let list = String::from_utf8_lossy(&list);
    let of_vendor = list.lines().skip_while(|line| !line.starts_with(vendor)).skip(1);
    let mut devices = of_vendor.take_while(|line| line.starts_with('\t') || line.is_empty() || line.starts_with('#'));
    let name = devices.find_map(|line| line.strip_prefix('\t')?.strip_prefix(device)).map(str::trim)?;
    // Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]
    let name = name.split_once('[').and_then(|(_, name)| name.strip_suffix(']')).unwrap_or(name);
    Some(name.to_owned())
}

/// `None`: it is missing or empty.
pub(crate) fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

pub(crate) fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}
