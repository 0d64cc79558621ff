//! Curves for the page.

use std::io::{self, BufRead};

use serde_json::{Map, Value};

use super::bounded_lines;

const LONGEST_LINE: usize = 64 << 10;

/// One point of the loss curve.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPoint {
    pub step: u64,
    /// Passes over the data so far, with fraction.
    pub epoch: f64,
    pub loss: f64,
    pub learning_rate: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Loss on the held-out examples.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalPoint {
    pub step: u64,
    pub loss: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsPoints {
    pub train: Vec<TrainPoint>,
    pub eval: Vec<EvalPoint>,
}

/// The curves of a whole metrics.jsonl, evenly thinned to at most `max_points` each; the first and last point stay.
///
/// An attempt that resumes writes some steps again; the later figures count. Needs memory for 8 × `max_points`.
pub fn metrics_points(reader: impl BufRead, max_points: usize) -> io::Result<MetricsPoints> {
    let (mut train, mut eval) = (Thinned::new(max_points), Thinned::new(max_points));
    bounded_lines(reader, LONGEST_LINE, |line| {
        let Ok(figures) = serde_json::from_str::<Map<String, Value>>(line) else { return };
        let number = |name: &str| figures.get(name).and_then(Value::as_f64).filter(|number| number.is_finite());
        let count = |name: &str| figures.get(name).and_then(Value::as_u64);
        let (Some(step), Some(loss)) = (count("step"), number("loss")) else { return };
        match figures.get("event").map(Value::as_str) {
            None | Some(Some("step")) => train.push(
                step,
                TrainPoint {
                    step,
                    epoch: number("epoch").unwrap_or(0.0),
                    loss,
                    learning_rate: number("learning_rate"),
                    grad_norm: number("grad_norm"),
                    tokens_per_second: number("tokens_per_second"),
                    memory_bytes: count("memory_bytes").filter(|bytes| *bytes > 0),
                },
            ),
            Some(Some("eval")) => eval.push(step, EvalPoint { step, loss }),
            Some(_) => {}
        }
    })?;
    Ok(MetricsPoints { train: train.finish(), eval: eval.finish() })
}

/// Points kept for each one wanted, so that the final choice among them can be even.
const SPARE: usize = 8;

/// Keeps every n-th point, with n doubled whenever there are too many, and the last one.
struct Thinned<T> {
    limit: usize,
    stride: usize,
    /// Points before the last one.
    count: usize,
    /// With their numbers, all of which are multiples of the stride.
    kept: Vec<(usize, u64, T)>,
    last: Option<(u64, T)>,
}

impl<T> Thinned<T> {
    fn new(limit: usize) -> Thinned<T> {
        Thinned { limit, stride: 1, count: 0, kept: Vec::new(), last: None }
    }

    fn push(&mut self, step: u64, point: T) {
        if self.last.as_ref().is_some_and(|(last, _)| *last >= step) {
            // The run was resumed before this step: what came after it did not happen.
            self.last = None;
            while self.kept.pop_if(|(_, kept, _)| *kept >= step).is_some() {}
            self.count = self.kept.last().map_or(0, |(number, _, _)| number + 1);
        }
        if let Some((step, point)) = self.last.replace((step, point)) {
            self.keep(step, point);
        }
    }

    fn keep(&mut self, step: u64, point: T) {
        if self.count.is_multiple_of(self.stride) {
            self.kept.push((self.count, step, point));
        }
        self.count += 1;
        if self.kept.len() > SPARE * self.limit.max(2) {
            self.stride *= 2;
            self.kept.retain(|(number, _, _)| number.is_multiple_of(self.stride));
        }
    }

    /// At most the limit, evenly, the first and the last among them.
    fn finish(mut self) -> Vec<T> {
        self.kept.extend(self.last.take().map(|(step, point)| (self.count, step, point)));
        let (count, limit) = (self.kept.len(), self.limit);
        let chosen = |index: usize| match limit {
            _ if count <= limit => true,
            0 => false,
            1 => index + 1 == count,
            // The index is one of the `limit` even ones if a multiple of the spacing falls on it, rounded down.
            _ => {
                let slot = (index * (limit - 1)).div_ceil(count - 1);
                slot * (count - 1) / (limit - 1) == index
            }
        };
        let points = self.kept.into_iter().enumerate();
        points.filter(|(index, _)| chosen(*index)).map(|(_, (_, _, point))| point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(text: &str, max: usize) -> MetricsPoints {
        metrics_points(text.as_bytes(), max).unwrap()
    }

    fn steps(points: &MetricsPoints) -> Vec<u64> {
        points.train.iter().map(|point| point.step).collect()
    }

    #[test]
    fn curves_are_thinned_evenly_and_keep_their_ends() {
        for (count, max) in
            [(1u64, 5usize), (5, 5), (6, 5), (10, 2), (1000, 7), (12_345, 100), (100_000, 2000), (3, 1), (3, 0)]
        {
            let text: String = (1..=count).map(|step| format!("{{\"step\":{step},\"loss\":1.5}}\n")).collect();
            let steps = steps(&points(&text, max));
            assert_eq!(steps.len().min(max), steps.len(), "{count} to {max}");
            if max == 0 {
                continue;
            }
            assert_eq!(steps.last(), Some(&count), "{count} to {max}");
            if max >= 2 {
                assert_eq!(steps[0], 1, "{count} to {max}");
                assert!(steps.len() as u64 >= count.min(max as u64), "{count} to {max}: {}", steps.len());
                let gaps: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
                if let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) {
                    assert!(*least > 0 && most - least <= most / 2 + 1, "{count} to {max}: {least} to {most}");
                }
            }
        }
    }

    #[test]
    fn only_figures_become_points() {
        let text = concat!(
            "{\"event\":\"start\",\"total_steps\":4}\n",
            "{\"event\":\"step\",\"step\":1,\"epoch\":0.5,\"loss\":2.0,\"learning_rate\":1e-4,\"memory_bytes\":0}\n",
            "{\"event\":\"step\",\"step\":2,\"loss\":NaN}\n",
            "{\"event\":\"step\",\"step\":2,\"loss\":null}\n",
            "{\"event\":\"eval\",\"step\":2,\"loss\":1.5}\n",
            "rubbish\n\n{\"event\":5}\n{\"step\":-1,\"loss\":1}\n[1]\n",
            "{\"step\":3,\"loss\":1.0}\n",
            "{\"event\":\"step\",\"step\":4,\"lo",
        );
        let points = points(text, 10);
        assert_eq!(steps(&points), [1, 3]);
        assert_eq!(points.train[0].learning_rate, Some(1e-4));
        assert_eq!(points.train[0].memory_bytes, None, "0 is how the trainer says unknown");
        assert_eq!(points.eval, [EvalPoint { step: 2, loss: 1.5 }]);
    }

    #[test]
    fn a_resumed_run_overwrites_the_steps_it_repeats() {
        let line = |step: u64, loss: f64| format!("{{\"step\":{step},\"loss\":{loss}}}\n");
        let text: String = (1..=5).map(|s| line(s, 1.0)).chain((3..=6).map(|s| line(s, 2.0))).collect();
        let points = points(&text, 10);
        assert_eq!(steps(&points), [1, 2, 3, 4, 5, 6]);
        assert_eq!(points.train.iter().map(|point| point.loss).collect::<Vec<_>>(), [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_hides_nothing_after_it() {
        let text = format!("{}\n{{\"step\":1,\"loss\":1}}\n", "x".repeat(3 * LONGEST_LINE));
        assert_eq!(steps(&points(&text, 10)), [1]);
        let exact = format!("{}\n{{\"step\":1,\"loss\":1}}\n", "x".repeat(LONGEST_LINE - 1));
        assert_eq!(steps(&points(&exact, 10)), [1]);
    }
}
