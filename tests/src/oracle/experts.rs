//! Mixtures of experts as their formulas have them (Shazeer et al. 2017, section 2.1; Jiang et al. 2024, section 2.1;
//! DeepSeek-AI 2024, "DeepSeek-V3", section 2.1.2).

use trefoil_ir::op::Scoring;

use super::attention::softmax;
use super::functions::sigmoid;
use super::matrix::{Matrix, dot};

/// How experts are chosen and what share each of the chosen has.
pub(super) struct Routing {
    pub(super) top_k: usize,
    pub(super) scoring: Scoring,
    pub(super) renormalize: bool,
    /// Added to the scores for the choice, not for the shares.
    pub(super) bias: Option<Vec<f64>>,
    pub(super) groups: Option<Grouped>,
}

/// Groups of experts, of which a row goes to the best (DeepSeek-AI 2024, "DeepSeek-V2", section 2.2.2).
#[derive(Clone, Copy)]
pub(super) struct Grouped {
    pub(super) of: usize,
    pub(super) top: usize,
    /// How many of a group's best experts are added up to say how good it is.
    pub(super) counted: usize,
}

/// How far the last chosen expert is ahead of the first that was not, in the row where that is least: arithmetic less
/// exact than this one may choose another where it is nearly nothing.
pub(super) fn closest_choice(logits: &Matrix, routing: &Routing) -> f64 {
    let lead = |row: &[f64]| {
        let (_, judged) = judged(row, routing);
        let of_groups = routing.groups.map_or(f64::INFINITY, |groups| ahead(&goodness(&judged, groups), groups.top));
        ahead(&within(judged, routing), routing.top_k).min(of_groups)
    };
    logits.rows().map(lead).fold(f64::INFINITY, f64::min)
}

/// How far the last of the `count` best is ahead of the next.
fn ahead(judged: &[f64], count: usize) -> f64 {
    let mut judged = judged.to_vec();
    judged.sort_by(|a, b| b.total_cmp(a));
    judged.get(count).map_or(f64::INFINITY, |next| judged[count - 1] - next)
}

/// How good each group is.
fn goodness(judged: &[f64], groups: Grouped) -> Vec<f64> {
    let good = |group: &[f64]| {
        let mut group = group.to_vec();
        group.sort_by(|a, b| b.total_cmp(a));
        group[..groups.counted].iter().sum()
    };
    judged.chunks(judged.len() / groups.of).map(good).collect()
}

/// What experts are chosen by, nothing of it outside the best groups.
fn within(mut judged: Vec<f64>, routing: &Routing) -> Vec<f64> {
    let Some(groups) = routing.groups else { return judged };
    let goodness = goodness(&judged, groups);
    let mut order: Vec<usize> = (0..groups.of).collect();
    order.sort_by(|&a, &b| goodness[b].total_cmp(&goodness[a]));
    let each = judged.len() / groups.of;
    for group in &order[groups.top..] {
        judged[group * each..(group + 1) * each].fill(f64::NEG_INFINITY);
    }
    judged
}

/// The numbers of the experts of each row with the highest scores, and their shares.
pub(super) fn route(logits: &Matrix, routing: &Routing) -> [Matrix; 2] {
    [
        logits.map_rows(|_, row| chosen(row, routing).into_iter().map(|(expert, _)| expert as f64).collect()),
        logits.map_rows(|_, row| chosen(row, routing).into_iter().map(|(_, share)| share).collect()),
    ]
}

fn chosen(logits: &[f64], routing: &Routing) -> Vec<(usize, f64)> {
    let (scores, judged) = judged(logits, routing);
    let judged = within(judged, routing);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // A stable sort: the lower number stays first among equals.
    order.sort_by(|&a, &b| judged[b].total_cmp(&judged[a]));
    order.truncate(routing.top_k);
    let sum: f64 = if routing.renormalize { order.iter().map(|&expert| scores[expert]).sum() } else { 1.0 };
    order.into_iter().map(|expert| (expert, scores[expert] / sum)).collect()
}

/// The scores of all experts, and what they are chosen by.
fn judged(logits: &[f64], routing: &Routing) -> (Vec<f64>, Vec<f64>) {
    let scores = match routing.scoring {
        Scoring::Softmax => softmax(logits),
        Scoring::Sigmoid => logits.iter().map(|&logit| sigmoid(logit)).collect(),
    };
    let bias = |expert: usize| routing.bias.as_ref().map_or(0.0, |bias| bias[expert]);
    let judged = scores.iter().enumerate().map(|(expert, score)| score + bias(expert)).collect();
    (scores, judged)
}

/// Each row times the matrices of its experts, with their biases, one product behind the other; a row as wide as all its
/// experts' inputs has a part for each.
pub(super) fn product(x: &Matrix, experts: &Matrix, weights: &[Matrix], biases: Option<&[Matrix]>) -> Matrix {
    x.map_rows(|number, row| {
        let products = experts.row(number).iter().enumerate().flat_map(|(slot, expert)| {
            let expert = *expert as usize;
            let weight = &weights[expert];
            let inputs = weight.num_columns();
            let own = if row.len() == inputs { row } else { &row[slot * inputs..(slot + 1) * inputs] };
            let bias = |output: usize| biases.map_or(0.0, |biases| biases[expert].row(0)[output]);
            weight.rows().enumerate().map(|(output, weights)| dot(own, weights) + bias(output)).collect::<Vec<_>>()
        });
        products.collect()
    })
}

/// The sum of the parts of each row, each by its share.
pub(super) fn combine(x: &Matrix, shares: &Matrix) -> Matrix {
    x.map_rows(|number, row| {
        let shares = shares.row(number);
        let width = row.len() / shares.len();
        let sum =
            |column: usize| shares.iter().enumerate().map(|(slot, share)| share * row[slot * width + column]).sum();
        (0..width).map(sum).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &Matrix, expected: &[f64]) {
        let expected = Matrix::new(1, expected.len(), expected.to_vec());
        assert!(found.largest_difference(&expected) < 1e-12, "{found:?}, not {expected:?}");
    }

    #[test]
    fn a_bias_chooses_and_has_no_share() {
        let logits = Matrix::new(1, 4, [1.0f64, 4.0, 3.0, 2.0].map(f64::ln).to_vec());
        let routing =
            |renormalize, bias| Routing { top_k: 2, scoring: Scoring::Softmax, renormalize, bias, groups: None };
        let [experts, shares] = route(&logits, &routing(false, None));
        close(&experts, &[1.0, 2.0]);
        close(&shares, &[0.4, 0.3]);
        let [experts, shares] = route(&logits, &routing(true, Some(vec![1.0, 0.0, -1.0, 0.0])));
        close(&experts, &[0.0, 1.0]);
        close(&shares, &[0.2, 0.8]);
    }

    #[test]
    fn among_equals_the_lower_number_is_first() {
        let logits = Matrix::new(1, 3, vec![0.0; 3]);
        let bias = Some(vec![0.0, 0.5, 0.5]);
        let routing = Routing { top_k: 2, scoring: Scoring::Sigmoid, renormalize: false, bias, groups: None };
        let [experts, shares] = route(&logits, &routing);
        close(&experts, &[1.0, 2.0]);
        close(&shares, &[0.5, 0.5]);
    }

    #[test]
    fn only_experts_of_the_best_groups_are_chosen() {
        let logits = Matrix::new(1, 6, [9.0f64, 1.0, 6.0, 5.0, 4.0, 7.0].map(f64::ln).to_vec());
        let chosen = |top, counted| {
            let groups = Some(Grouped { of: 3, top, counted });
            let scoring = Scoring::Softmax;
            let [experts, shares] =
                route(&logits, &Routing { top_k: 2, scoring, renormalize: false, bias: None, groups });
            (experts.row(0).to_vec(), shares.row(0).iter().map(|share| share * 32.0).collect::<Vec<_>>())
        };
        assert_eq!(chosen(1, 1).0, [0.0, 1.0]);
        assert_eq!(chosen(1, 2).0, [2.0, 3.0], "of two equally good groups the first");
        assert_eq!(chosen(2, 1).0, [0.0, 5.0]);
        close(&Matrix::new(1, 2, chosen(2, 2).1), &[7.0, 6.0]);
    }

    #[test]
    fn each_expert_has_its_matrix_and_bias() {
        let experts = Matrix::new(1, 2, vec![1.0, 0.0]);
        let weights = [Matrix::new(1, 2, vec![1.0, 2.0]), Matrix::new(1, 2, vec![10.0, 20.0])];
        let biases = [Matrix::new(1, 1, vec![0.5]), Matrix::new(1, 1, vec![-5.0])];
        let shared = Matrix::new(1, 2, vec![1.0, 1.0]);
        close(&product(&shared, &experts, &weights, None), &[30.0, 3.0]);
        close(&product(&shared, &experts, &weights, Some(&biases)), &[25.0, 3.5]);
        let own = Matrix::new(1, 4, vec![1.0, 0.0, 0.0, 1.0]);
        close(&product(&own, &experts, &weights, Some(&biases)), &[5.0, 2.5]);
        close(
            &combine(&Matrix::new(1, 4, vec![1.0, 2.0, 10.0, 20.0]), &Matrix::new(1, 2, vec![0.5, 0.1])),
            &[1.5, 3.0],
        );
    }
}
