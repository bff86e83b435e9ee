//! Norms, as their papers have them.

use super::matrix::{Matrix, dot};

/// `x / sqrt(mean(x²) + eps) * weight` (Zhang & Sennrich 2019, eq. 4), of each `group` elements of a row by themselves.
pub(super) fn rms_norm(x: &Matrix, weight: Option<&Matrix>, eps: f64, group: Option<usize>) -> Matrix {
    each_group(x, group, |elements| {
        let mean_square = dot(elements, elements) / elements.len() as f64;
        scaled(elements, 1.0 / (mean_square + eps).sqrt(), weight, None)
    })
}

/// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` (Ba et al. 2016, eq. 4), of each `group` elements of a row by
/// themselves.
pub(super) fn layer_norm(
    x: &Matrix,
    weight: Option<&Matrix>,
    bias: Option<&Matrix>,
    eps: f64,
    group: Option<usize>,
) -> Matrix {
    each_group(x, group, |elements| {
        let mean = elements.iter().sum::<f64>() / elements.len() as f64;
        let centred: Vec<f64> = elements.iter().map(|x| x - mean).collect();
        let variance = dot(&centred, &centred) / elements.len() as f64;
        scaled(&centred, 1.0 / (variance + eps).sqrt(), weight, bias)
    })
}

fn each_group(x: &Matrix, group: Option<usize>, normed: impl Fn(&[f64]) -> Vec<f64>) -> Matrix {
    let group = group.unwrap_or(x.num_columns());
    assert_eq!(x.num_columns() % group, 0, "{} columns are no whole number of groups of {group}", x.num_columns());
    x.map_rows(|_, row| row.chunks(group).flat_map(&normed).collect())
}

fn scaled(elements: &[f64], by: f64, weight: Option<&Matrix>, bias: Option<&Matrix>) -> Vec<f64> {
    let of = |vector: Option<&Matrix>, index: usize, missing: f64| vector.map_or(missing, |own| own.row(0)[index]);
    let element = |(index, x): (usize, &f64)| x * by * of(weight, index, 1.0) + of(bias, index, 0.0);
    elements.iter().enumerate().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(elements: &[f64]) -> Matrix {
        Matrix::new(1, elements.len(), elements.to_vec())
    }

    fn close(found: &Matrix, expected: &[f64]) {
        assert!(found.largest_difference(&row(expected)) < 1e-12, "{found:?}, not {expected:?}");
    }

    #[test]
    fn a_row_by_its_root_mean_square() {
        close(&rms_norm(&row(&[3.0, 4.0, 0.0, 0.0]), None, 0.0, None), &[1.2, 1.6, 0.0, 0.0]);
        let weight = row(&[1.0, 0.5, 2.0, 3.0]);
        close(&rms_norm(&row(&[3.0, 4.0, 0.0, 0.0]), Some(&weight), 0.0, None), &[1.2, 0.8, 0.0, 0.0]);
        close(&rms_norm(&row(&[0.0, 3.0]), None, 4.5, None), &[0.0, 1.0]);
    }

    #[test]
    fn each_group_by_itself_with_one_weight() {
        let (x, weight) = (row(&[3.0, 3.0, -8.0, 0.0]), row(&[1.0, 10.0]));
        let root = 2f64.sqrt();
        close(&rms_norm(&x, Some(&weight), 0.0, Some(2)), &[1.0, 10.0, -root, 0.0]);
        close(&layer_norm(&x, Some(&weight), None, 1e-30, Some(2)), &[0.0, 0.0, -1.0, 10.0]);
    }

    #[test]
    fn a_row_by_its_mean_and_variance() {
        let x = row(&[1.0, 3.0, 5.0, 7.0]);
        let root = 5f64.sqrt();
        close(&layer_norm(&x, None, None, 0.0, None), &[-3.0 / root, -1.0 / root, 1.0 / root, 3.0 / root]);
        let (weight, bias) = (row(&[root, 1.0, 1.0, 2.0 * root]), row(&[1.0, 0.0, 0.0, -1.0]));
        let expected = [-2.0, -1.0 / root, 1.0 / root, 5.0];
        close(&layer_norm(&x, Some(&weight), Some(&bias), 0.0, None), &expected);
        close(&layer_norm(&x, None, None, 4.0, None), &[-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0]);
    }
}
