//! The schedule as a picture.

use std::fmt::Write;

use crate::Outcome;

/// Upper bound in seconds, label, colour (Okabe and Ito's, told apart by everybody).
const LENGTHS: [(f64, &str, &str); 4] = [
    (900.0, "&lt; 15 min", "#56b4e9"),
    (3600.0, "&lt; 1 h", "#009e73"),
    (6.0 * 3600.0, "&lt; 6 h", "#e69f00"),
    (f64::INFINITY, "≥ 6 h", "#d55e00"),
];
const LEFT: f64 = 48.0;
const TOP: f64 = 28.0;
const WIDTH: f64 = 1200.0;
const ROW: f64 = 22.0;
const GAP: f64 = 4.0;

/// A bar in units of the picture.
#[derive(Clone, Copy)]
struct Bar {
    lane: usize,
    from: f64,
    to: f64,
    length: usize,
}

/// A Gantt chart as SVG: a row per GPU, side by side in it what shares it, colours by the jobs' length, hours below.
pub fn gantt(outcome: &Outcome) -> String {
    let first = outcome.jobs.first().map_or(0.0, |job| job.submit_s);
    let hours = (outcome.makespan_s / 3600.0).max(1e-3);
    let x = |seconds: f64| (seconds - first) / 3600.0 / hours * WIDTH;
    let height = TOP + f64::from(outcome.gpus) * (ROW + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + 24.0,
        height + 24.0
    );
    for ((_, label, colour), place) in LENGTHS.iter().zip(0..) {
        let x = LEFT + 90.0 * f64::from(place);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"8\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"18\">{label}</text>",
            x + 16.0
        );
    }
    for gpu in 0..outcome.gpus {
        let top = TOP + f64::from(gpu) * (ROW + GAP);
        let _ = writeln!(svg, "<text x=\"4\" y=\"{}\">GPU {gpu}</text>", top + ROW * 0.7);
        draw(&mut svg, &bars(outcome, gpu, x), top);
    }
    axis(&mut svg, hours, height);
    svg.push_str("</svg>\n");
    svg
}

/// What ran on one GPU, each in the first lane that was free.
fn bars(outcome: &Outcome, gpu: u32, x: impl Fn(f64) -> f64) -> Vec<Bar> {
    let mut segments: Vec<_> = outcome.schedule.iter().filter(|segment| segment.gpus.contains(&gpu)).collect();
    segments.sort_by(|a, b| a.start_s.total_cmp(&b.start_s).then(a.end_s.total_cmp(&b.end_s)));
    let mut lanes: Vec<f64> = Vec::new();
    let bar = |segment: &&crate::Segment| {
        let free = lanes.iter().position(|end| *end <= segment.start_s);
        let lane = free.unwrap_or_else(|| {
            lanes.push(0.0);
            lanes.len() - 1
        });
        lanes[lane] = segment.end_s;
        let duration = outcome.jobs[segment.job].duration_s;
        let length = LENGTHS.iter().position(|(bound, ..)| duration < *bound).unwrap_or(LENGTHS.len() - 1);
        Bar { lane, from: x(segment.start_s), to: x(segment.end_s), length }
    };
    segments.iter().map(bar).collect()
}

/// One path per colour and lane; bars of one colour that touch are drawn as one, so that the file stays small.
fn draw(svg: &mut String, bars: &[Bar], top: f64) {
    let lanes = bars.iter().map(|bar| bar.lane + 1).max().unwrap_or(1);
    let height = ROW / lanes as f64;
    for lane in 0..lanes {
        let y = top + height * (lane as f64 + 0.5);
        for (length, (_, _, colour)) in LENGTHS.iter().enumerate() {
            let mut merged: Vec<(f64, f64)> = Vec::new();
            for bar in bars.iter().filter(|bar| bar.lane == lane && bar.length == length) {
                match merged.last_mut() {
                    Some((_, to)) if bar.from - *to < 0.1 => *to = bar.to,
                    _ => merged.push((bar.from, bar.to)),
                }
            }
            if merged.is_empty() {
                continue;
            }
            let _ = write!(svg, "<path stroke=\"{colour}\" stroke-width=\"{height:.1}\" d=\"");
            for (from, to) in merged {
                let _ = write!(svg, "M{:.1} {y:.1}h{:.1}", LEFT + from, (to - from).max(0.1));
            }
            svg.push_str("\"/>\n");
        }
    }
}

fn axis(svg: &mut String, hours: f64, top: f64) {
    let step = tick(hours);
    let mut mark = 0;
    while f64::from(mark) * step <= hours {
        let hour = f64::from(mark) * step;
        let x = LEFT + hour / hours * WIDTH;
        let _ = writeln!(
            svg,
            "<path stroke=\"#999\" d=\"M{x:.1} {top:.1}v4\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">\
             {} h</text>",
            top + 16.0,
            (hour * 1000.0).round() / 1000.0
        );
        mark += 1;
    }
}

/// 1, 2 or 5 times a power of ten, for about ten marks.
fn tick(hours: f64) -> f64 {
    let power = 10f64.powf((hours / 10.0).log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|step| hours / step <= 12.0);
    step.unwrap_or(10.0 * power)
}
