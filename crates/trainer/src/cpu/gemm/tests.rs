//! Against the definition, at every edge of tiles and blocks.

use super::*;

fn numbers(len: usize, salt: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

fn check(m: usize, n: usize, k: usize, ta: bool, tb: bool, add: bool) {
    let (a, b, old) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * (n + 3), 3));
    let view = |data, rows, columns, t: bool| {
        if t { View::new(data, columns, rows).transposed() } else { View::new(data, rows, columns) }
    };
    let at = |v: &View<f32>, i: usize, j: usize| v.data[i * v.row_stride + j * v.column_stride] as f64;
    let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
    let mut c = old.clone();
    let (e, f) = (numbers(m * 4, 4), numbers(n * 4, 5));
    let (e, f) = (View::new(&e, m, 4), View::new(&f, n, 4).transposed());
    let more = (k % 2 == 1).then_some((e, f));
    products(0.5, a, b, more, Target { data: &mut c[..], stride: n + 3, add });
    for i in 0..m {
        for j in 0..n + 3 {
            let sum: f64 = if j < n { (0..k).map(|p| at(&a, i, p) * at(&b, p, j)).sum() } else { 0.0 };
            let extra = if j < n && more.is_some() { (0..4).map(|p| at(&e, i, p) * at(&f, p, j)).sum() } else { 0.0 };
            let sum = sum + extra;
            let before = old[i * (n + 3) + j] as f64;
            let expected = 0.5 * sum + if add || j >= n { before } else { 0.0 };
            let error = (c[i * (n + 3) + j] as f64 - expected).abs();
            assert!(error < 1e-4, "{m}x{n}x{k} ta {ta} tb {tb} add {add} at {i},{j}: off by {error}");
        }
    }
}

#[test]
fn agrees_with_the_definition_at_all_edges() {
    for (m, n, k) in
        [(1, 1, 1), (1, 33, 5), (12, 32, 256), (13, 31, 257), (70, 100, 300), (25, 530, 3), (3, 5, 0), (500, 16, 40)]
    {
        for flags in 0..8 {
            check(m, n, k, flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = (90, 700, 300);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0.0; m * n];
        let target = Target { data: &mut c[..], stride: n, add: false };
        pool.install(|| product(1.0, View::new(&a, m, k), View::new(&b, n, k).transposed(), target));
        c
    };
    assert_eq!(run(1), run(3));
}
