//! `61GB` and `24GiB`.

/// Bytes from a number with or without a unit: 1000000, 500MB, 61GB, 24GiB.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((&upper, 1));
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((number * unit as f64) as u64),
        _ => Err("expected a number of bytes such as 1000000, 500MB, 61GB or 24GiB".into()),
    }
}
