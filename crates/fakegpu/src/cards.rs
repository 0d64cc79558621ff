//! Cards that one can buy (`cards.csv`), and `8xH100` for eight of them.

use std::str::FromStr;

use crate::state::{Architecture, Clocks, Ecc, Gpu, MemoryReport, Mig, MigInstance, State};

const MIB: u64 = 1 << 20;
/// What an idle instance already uses.
const RESERVED_BY_INSTANCE: u64 = 12 * MIB;

/// A line of the table. What the driver reserves varies a little with its version.
struct Card {
    key: &'static str,
    name: &'static str,
    architecture: Architecture,
    compute_capability: [i32; 2],
    pci_device_id: u16,
    total: u64,
    reserved: u64,
    sms: u32,
    watts: u32,
    max_sm_mhz: u32,
    max_memory_mhz: u32,
    has_fan: bool,
    has_ecc: bool,
    mig: Option<Slice>,
}

/// The smallest MIG instance, of which seven fit.
struct Slice {
    profile: &'static str,
    total: u64,
    sms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown GPUs `{spec}`: write a number and a card, like 8xH100 or 2xA100-40+1xRTX3060; known cards: {known}")]
pub struct UnknownCard {
    spec: String,
    known: String,
}

impl FromStr for State {
    type Err = UnknownCard;

    /// `8xH100`, `H100`, `2xA100-40+1xRTX3060`.
    fn from_str(spec: &str) -> Result<State, UnknownCard> {
        let cards = cards();
        let unknown = || UnknownCard {
            spec: spec.into(),
            known: cards.iter().map(|card| card.key).collect::<Vec<_>>().join(" "),
        };
        let mut gpus = Vec::new();
        for part in spec.split('+') {
            let (count, key) = match part.split_once(['x', 'X', '×']) {
                Some((count, key)) if count.chars().all(|c| c.is_ascii_digit()) => (count, key),
                _ => ("1", part),
            };
            let count: usize = count.parse().map_err(|_| unknown())?;
            let card = cards.iter().find(|card| card.key.eq_ignore_ascii_case(key)).ok_or_else(unknown)?;
            if count > 64 {
                return Err(unknown());
            }
            for _ in 0..count {
                gpus.push(card.gpu(gpus.len()));
            }
        }
        Ok(State::new(gpus))
    }
}

impl Gpu {
    /// Enables MIG with so many of the smallest instances. False: the card has no MIG, or they do not fit.
    pub fn split(&mut self, instances: usize) -> bool {
        let card = cards().into_iter().find(|card| card.name == self.name);
        let Some(slice) = card.and_then(|card| card.mig) else { return false };
        if instances > 7 {
            return false;
        }
        let instance = |number: usize| MigInstance {
            uuid: self.uuid.replacen("GPU-", "MIG-", 1).replacen("0000-4000", &format!("000{}-5000", number + 1), 1),
            profile: slice.profile.into(),
            // The driver numbers the smallest instances from 7 on.
            gpu_instance: 7 + number as u32,
            compute_instance: 0,
            total: slice.total,
            reserved: RESERVED_BY_INSTANCE,
            sms: slice.sms,
        };
        self.mig = Mig::Instances((0..instances).map(instance).collect());
        true
    }
}

impl Card {
    /// The same every time, and another one for every index.
    fn gpu(&self, index: usize) -> Gpu {
        let max = Clocks {
            sm: self.max_sm_mhz,
            memory: self.max_memory_mhz,
            max_sm: self.max_sm_mhz,
            max_memory: self.max_memory_mhz,
        };
        // Only these share the memory of their host.
        let unified = self.key == "GB10";
        Gpu {
            uuid: format!("GPU-{:04x}fa4e-0000-4000-8000-{:012x}", self.pci_device_id, index + 1),
            name: self.name.into(),
            architecture: self.architecture,
            compute_capability: self.compute_capability,
            sms: self.sms,
            pci_bus_id: format!("00000000:{:02X}:00.0", index + 1),
            pci_device_id: self.pci_device_id,
            total: self.total,
            reserved: self.reserved,
            memory: if unified { MemoryReport::NotSupported } else { MemoryReport::V2 },
            unattributed: 0,
            processes: Vec::new(),
            process_list: Default::default(),
            utilisation: Some(0),
            memory_utilisation: Some(0),
            temperature: 32 + index as u32 % 8,
            power_milliwatts: self.watts * 150,
            power_limit_milliwatts: self.watts * 1000,
            clocks: Clocks { sm: 210, ..max },
            fan: self.has_fan.then_some(30),
            ecc: self.has_ecc.then(|| Ecc { enabled: true, ..Ecc::default() }),
            mig: if self.mig.is_some() { Mig::Disabled } else { Mig::NotSupported },
            lost: false,
            hang_seconds: 0.0,
            xids: Vec::new(),
        }
    }

    fn parse(line: &'static str) -> Option<Card> {
        let fields: Vec<&str> = line.split(',').collect();
        let &[
            key,
            name,
            architecture,
            capability,
            device,
            total,
            reserved,
            sms,
            watts,
            max_sm,
            max_memory,
            fan,
            ecc,
            profile,
            instance,
            instance_sms,
        ] = fields.as_slice()
        else {
            return None;
        };
        let (major, minor) = capability.split_once('.')?;
        let mib = |text: &str| Some(text.parse::<u64>().ok()? * MIB);
        let mig = match profile {
            "" => None,
            _ => Some(Slice { profile, total: mib(instance)?, sms: instance_sms.parse().ok()? }),
        };
        Some(Card {
            key,
            name,
            architecture: serde_json::from_value(architecture.into()).ok()?,
            compute_capability: [major.parse().ok()?, minor.parse().ok()?],
            pci_device_id: u16::from_str_radix(device, 16).ok()?,
            total: mib(total)?,
            reserved: mib(reserved)?,
            sms: sms.parse().ok()?,
            watts: watts.parse().ok()?,
            max_sm_mhz: max_sm.parse().ok()?,
            max_memory_mhz: max_memory.parse().ok()?,
            has_fan: fan == "yes",
            has_ecc: ecc == "yes",
            mig,
        })
    }
}

fn cards() -> Vec<Card> {
    let lines = include_str!("cards.csv").lines().skip(1);
    lines.map(|line| Card::parse(line).unwrap_or_else(|| panic!("cards.csv: {line}"))).collect()
}
