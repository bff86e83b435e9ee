//! Symbolic sizes, and the expressions that define them.
//!
//! An [`Expr`] is what a porter writes in `dims` and `params`: `config.head_dim ?? hidden / heads`. A [`Dim`] is a size in
//! a shape, over the names that `dims` defines: `heads * head`. Dims are kept as polynomials in normal form, so that
//! `heads * head` and `head * heads` are one dim and equality is `==`.
//!
//! ```text
//! expr  = sum ("??" sum)*          the first that exists
//! sum   = term (("+" | "-") term)*
//! term  = atom (("*" | "/") atom)*
//! atom  = number | name | "config." path | "(" expr ")" | ("sqrt" | "ln" | "floor") "(" expr ")"
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// An expression over `config.json`, dims and params.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `step`: known only when a step is formed. Stands alone.
    Step,
    /// A number.
    Number(f64),
    /// A dim or param defined before.
    Name(String),
    /// A key of `config.json`, as a path.
    Config(String),
    /// Two operands.
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// A function of a number.
    Call(Call, Box<Expr>),
    /// The first that exists.
    First(Vec<Expr>),
}

/// A function that expressions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Square root.
    Sqrt,
    /// Natural logarithm.
    Ln,
    /// The largest whole number that is not larger.
    Floor,
}

impl Call {
    const ALL: [Call; 3] = [Call::Sqrt, Call::Ln, Call::Floor];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Call::Sqrt => "sqrt",
            Call::Ln => "ln",
            Call::Floor => "floor",
        }
    }

    /// Its value.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Call::Sqrt => x.sqrt(),
            Call::Ln => x.ln(),
            Call::Floor => x.floor(),
        }
    }
}

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`; of dims: without rest, checked when the model is bound.
    Div,
}

impl Operator {
    /// Its sign.
    pub fn sign(self) -> char {
        match self {
            Operator::Add => '+',
            Operator::Sub => '-',
            Operator::Mul => '*',
            Operator::Div => '/',
        }
    }

    fn binds_tighter(self) -> bool {
        matches!(self, Operator::Mul | Operator::Div)
    }
}

/// Why a text is not an expression, and at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong there.
    pub message: String,
}

impl Expr {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let mut parser = Parser { text, offset: 0 };
        if text.trim() == "step" {
            return Ok(Expr::Step);
        }
        let expr = parser.first()?;
        parser.skip_spaces();
        match parser.rest().chars().next() {
            None => Ok(expr),
            Some(found) => Err(parser.error(format!("`{found}` after the end of the expression"))),
        }
    }

    /// The names it reads, in order of appearance.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Expr::Step | Expr::Number(_) | Expr::Config(_) => vec![],
            Expr::Name(name) => vec![name],
            Expr::Binary(_, a, b) => [a.names(), b.names()].concat(),
            Expr::Call(_, x) => x.names(),
            Expr::First(choices) => choices.iter().flat_map(Expr::names).collect(),
        }
    }

    /// The paths of `config.json` it reads, in order of appearance.
    pub fn config_paths(&self) -> Vec<&str> {
        match self {
            Expr::Step | Expr::Number(_) | Expr::Name(_) => vec![],
            Expr::Config(path) => vec![path],
            Expr::Binary(_, a, b) => [a.config_paths(), b.config_paths()].concat(),
            Expr::Call(_, x) => x.config_paths(),
            Expr::First(choices) => choices.iter().flat_map(Expr::config_paths).collect(),
        }
    }

    /// The expression as a size over the names it reads; `None` if it reads the config, is a fraction or negative.
    pub fn to_dim(&self) -> Option<Dim> {
        match self {
            Expr::Number(number) if number.fract() == 0.0 && *number >= 0.0 => Some(Dim::constant(*number as u64)),
            Expr::Name(name) => Some(Dim::name(name)),
            Expr::Binary(operator, a, b) => Some(a.to_dim()?.combine(*operator, &b.to_dim()?)),
            Expr::Step | Expr::Number(_) | Expr::Config(_) | Expr::Call(..) | Expr::First(_) => None,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Step => write!(f, "step"),
            Expr::Number(number) => write!(f, "{number}"),
            Expr::Name(name) => write!(f, "{name}"),
            Expr::Config(path) => write!(f, "config.{path}"),
            Expr::Binary(operator, a, b) => {
                a.fmt_operand(f, *operator, false)?;
                write!(f, " {} ", operator.sign())?;
                b.fmt_operand(f, *operator, true)
            }
            Expr::Call(call, x) => write!(f, "{}({x})", call.name()),
            Expr::First(choices) => {
                for (i, choice) in choices.iter().enumerate() {
                    write!(f, "{}{choice}", if i == 0 { "" } else { " ?? " })?;
                }
                Ok(())
            }
        }
    }
}

impl Expr {
    fn fmt_operand(&self, f: &mut fmt::Formatter<'_>, parent: Operator, right: bool) -> fmt::Result {
        let needs_parentheses = match self {
            Expr::First(_) => true,
            Expr::Binary(own, ..) => {
                parent.binds_tighter() && !own.binds_tighter() || right && parent.binds_tighter() == own.binds_tighter()
            }
            Expr::Step | Expr::Number(_) | Expr::Name(_) | Expr::Config(_) | Expr::Call(..) => false,
        };
        if needs_parentheses { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn error(&self, message: impl Into<String>) -> ExprError {
        ExprError { offset: self.offset, message: message.into() }
    }

    fn skip_spaces(&mut self) {
        self.offset += self.rest().len() - self.rest().trim_start().len();
    }

    fn accept(&mut self, sign: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(sign);
        if found {
            self.offset += sign.len();
        }
        found
    }

    fn first(&mut self) -> Result<Expr, ExprError> {
        let mut choices = vec![self.sum()?];
        while self.accept("??") {
            choices.push(self.sum()?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Expr::First(choices) })
    }

    fn sum(&mut self) -> Result<Expr, ExprError> {
        let mut left = self.term()?;
        loop {
            let operator = if self.accept("+") {
                Operator::Add
            } else if self.accept("-") {
                Operator::Sub
            } else {
                return Ok(left);
            };
            left = Expr::Binary(operator, Box::new(left), Box::new(self.term()?));
        }
    }

    fn term(&mut self) -> Result<Expr, ExprError> {
        let mut left = self.atom()?;
        loop {
            let operator = if self.accept("*") {
                Operator::Mul
            } else if self.accept("/") {
                Operator::Div
            } else {
                return Ok(left);
            };
            left = Expr::Binary(operator, Box::new(left), Box::new(self.atom()?));
        }
    }

    fn atom(&mut self) -> Result<Expr, ExprError> {
        if self.accept("(") {
            let inner = self.first()?;
            return if self.accept(")") { Ok(inner) } else { Err(self.error("a `(` is not closed")) };
        }
        self.skip_spaces();
        match self.rest().chars().next() {
            Some(digit) if digit.is_ascii_digit() => self.number(),
            Some(letter) if letter.is_ascii_alphabetic() || letter == '_' => self.name(),
            Some(other) => Err(self.error(format!("`{other}` where a number, a name or `config.…` should stand"))),
            None => Err(self.error("a number, a name or `config.…` is missing at the end")),
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.offset += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<Expr, ExprError> {
        let start = self.offset;
        self.take_while(|c| c.is_ascii_digit() || c == '.');
        if self.rest().starts_with(['e', 'E']) {
            self.offset += 1;
            self.offset += usize::from(self.rest().starts_with(['-', '+']));
            self.take_while(|c| c.is_ascii_digit());
        }
        let digits = &self.text[start..self.offset];
        let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Expr::Number).ok_or_else(|| ExprError { offset: start, message: format!("`{digits}` is no number") })
    }

    fn name(&mut self) -> Result<Expr, ExprError> {
        let start = self.offset;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if let Some(call) = Call::ALL.into_iter().find(|call| call.name() == name)
            && self.accept("(")
        {
            let inner = self.first()?;
            let is_closed = self.accept(")");
            return if is_closed { Ok(Expr::Call(call, inner.into())) } else { Err(self.error("a `(` is not closed")) };
        }
        match name.split_once('.') {
            None if name == "config" || name == "step" => Err(ExprError {
                offset: start,
                message: format!(
                    "`{name}` stands {}",
                    if name == "step" { "alone" } else { "before a key: `config.key`" }
                ),
            }),
            None => Ok(Expr::Name(name.to_owned())),
            Some(("config", path)) if !path.is_empty() && !path.split('.').any(str::is_empty) => {
                Ok(Expr::Config(path.to_owned()))
            }
            Some(_) => Err(ExprError { offset: start, message: format!("`{name}`: only `config.key` has a dot") }),
        }
    }
}

/// A symbolic size: a polynomial over names, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dim {
    /// Coefficient of each product of factors; none is 0.
    terms: BTreeMap<Vec<Factor>, i64>,
}

/// A factor of a product.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Factor {
    Name(Arc<str>),
    Quotient(Box<Dim>, Box<Dim>),
}

impl Dim {
    /// A fixed size.
    pub fn constant(size: u64) -> Self {
        Self::of(vec![], size as i64)
    }

    /// A size by name.
    pub fn name(name: &str) -> Self {
        Self::of(vec![Factor::Name(name.into())], 1)
    }

    fn of(factors: Vec<Factor>, coefficient: i64) -> Self {
        let terms = if coefficient == 0 { BTreeMap::new() } else { BTreeMap::from([(factors, coefficient)]) };
        Self { terms }
    }

    /// The sum.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (factors, coefficient) in &other.terms {
            *sum.terms.entry(factors.clone()).or_default() += coefficient;
        }
        sum.terms.retain(|_, coefficient| *coefficient != 0);
        sum
    }

    /// The difference.
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.times(&Self::of(vec![], -1)))
    }

    /// The product. A quotient times its divisor is its dividend, for quotients leave no rest.
    pub fn times(&self, other: &Self) -> Self {
        let mut product = Self::default();
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                product = product.plus(&product_of([a.as_slice(), b.as_slice()].concat(), x * y));
            }
        }
        product
    }

    /// The quotient, divided out where both are constants that leave no rest.
    pub fn over(&self, other: &Self) -> Self {
        match (self.as_constant(), other.as_constant()) {
            (_, Some(1)) => self.clone(),
            (Some(a), Some(b)) if b != 0 && a % b == 0 => Self::constant(a / b),
            _ if self == other => Self::constant(1),
            _ => Self::of(vec![Factor::Quotient(Box::new(self.clone()), Box::new(other.clone()))], 1),
        }
    }

    /// The size that times `divisor` gives this one whatever the names stand for; `None` if there is no such. Of a
    /// divisor that is a sum only multiples by a product are found.
    pub fn exact_quotient(&self, divisor: &Self) -> Option<Self> {
        if divisor.terms.len() > 1 {
            return self.quotient_by_sum(divisor);
        }
        let (factors, &size) = divisor.terms.iter().next()?;
        let terms = self.terms.iter().map(|(own, &coefficient)| {
            let rest = without(own, factors)?;
            (coefficient % size == 0).then_some((rest, coefficient / size))
        });
        terms.collect::<Option<_>>().map(|terms| Self { terms })
    }

    fn quotient_by_sum(&self, divisor: &Self) -> Option<Self> {
        let (own, &coefficient) = self.terms.iter().next()?;
        divisor.terms.iter().find_map(|(factors, &size)| {
            let rest = without(own, factors).filter(|_| coefficient % size == 0)?;
            let quotient = Self { terms: [(rest, coefficient / size)].into_iter().collect() };
            (quotient.times(divisor) == *self).then_some(quotient)
        })
    }

    fn combine(&self, operator: Operator, other: &Self) -> Self {
        match operator {
            Operator::Add => self.plus(other),
            Operator::Sub => self.minus(other),
            Operator::Mul => self.times(other),
            Operator::Div => self.over(other),
        }
    }

    /// The size with one name in place of another.
    pub fn renamed(&self, old: &str, new: &str) -> Self {
        self.terms.iter().fold(Self::default(), |sum, (factors, &coefficient)| {
            let factors = factors.iter().map(|factor| factor.renamed(old, new)).collect();
            sum.plus(&product_of(factors, coefficient))
        })
    }

    /// The size, if it depends on no name.
    pub fn as_constant(&self) -> Option<u64> {
        match self.terms.iter().next() {
            None => Some(0),
            Some((factors, &size)) if factors.is_empty() && self.terms.len() == 1 => u64::try_from(size).ok(),
            Some(_) => None,
        }
    }

    /// Whether it cannot be negative because no term is.
    pub fn is_surely_not_negative(&self) -> bool {
        self.terms.values().all(|&coefficient| coefficient > 0)
    }

    /// The names it reads.
    pub fn names(&self) -> Vec<&str> {
        self.terms.keys().flatten().flat_map(Factor::names).collect()
    }

    /// The size when `size_of` gives that of each name. `None` for an unknown name, a division that leaves a rest or by
    /// zero, a negative result, or one past 63 bits.
    pub fn evaluate(&self, size_of: &impl Fn(&str) -> Option<u64>) -> Option<u64> {
        let mut sum = 0i64;
        for (factors, &coefficient) in &self.terms {
            let mut product = coefficient;
            for factor in factors {
                product = product.checked_mul(i64::try_from(factor.evaluate(size_of)?).ok()?)?;
            }
            sum = sum.checked_add(product)?;
        }
        u64::try_from(sum).ok()
    }

    /// The terms, each a coefficient with its factors: for the code generator.
    pub fn terms(&self) -> impl Iterator<Item = (i64, Vec<DimFactor<'_>>)> {
        self.terms.iter().map(|(factors, &coefficient)| (coefficient, factors.iter().map(Factor::view).collect()))
    }
}

/// A factor of a term of a [`Dim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimFactor<'a> {
    /// A size by name.
    Name(&'a str),
    /// A whole quotient of two sizes.
    Quotient(&'a Dim, &'a Dim),
}

/// The product of factors, with the quotients among them multiplied out where their divisors are factors too.
fn product_of(mut factors: Vec<Factor>, coefficient: i64) -> Dim {
    let is_divisor = |factors: &[Factor], divisor: &Dim| {
        let own = |factor: &Factor| Dim::of(vec![factor.clone()], 1) == *divisor;
        factors.iter().position(own)
    };
    let multiplied_out = factors.iter().enumerate().find_map(|(at, factor)| match factor {
        Factor::Name(_) => None,
        Factor::Quotient(dividend, divisor) => Some((at, dividend.clone(), is_divisor(&factors, divisor)?)),
    });
    let Some((quotient, dividend, divisor)) = multiplied_out else {
        factors.sort();
        return Dim::of(factors, coefficient);
    };
    factors.remove(quotient.max(divisor));
    factors.remove(quotient.min(divisor));
    product_of(factors, coefficient).times(&dividend)
}

fn without(factors: &[Factor], taken: &[Factor]) -> Option<Vec<Factor>> {
    let mut rest = factors.to_vec();
    for factor in taken {
        rest.remove(rest.iter().position(|own| own == factor)?);
    }
    Some(rest)
}

impl Factor {
    fn names(&self) -> Vec<&str> {
        match self {
            Factor::Name(name) => vec![name],
            Factor::Quotient(a, b) => [a.names(), b.names()].concat(),
        }
    }

    fn renamed(&self, old: &str, new: &str) -> Self {
        match self {
            Factor::Name(name) if &**name == old => Factor::Name(new.into()),
            Factor::Name(_) => self.clone(),
            Factor::Quotient(a, b) => Factor::Quotient(Box::new(a.renamed(old, new)), Box::new(b.renamed(old, new))),
        }
    }

    fn view(&self) -> DimFactor<'_> {
        match self {
            Factor::Name(name) => DimFactor::Name(name),
            Factor::Quotient(a, b) => DimFactor::Quotient(a, b),
        }
    }

    fn evaluate(&self, size_of: &impl Fn(&str) -> Option<u64>) -> Option<u64> {
        match self {
            Factor::Name(name) => size_of(name),
            Factor::Quotient(a, b) => {
                let (a, b) = (a.evaluate(size_of)?, b.evaluate(size_of)?);
                (b != 0 && a % b == 0).then(|| a / b)
            }
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return write!(f, "0");
        }
        for (i, (factors, &coefficient)) in self.terms.iter().rev().enumerate() {
            match (i, coefficient < 0) {
                (0, false) => {}
                (0, true) => write!(f, "0 - ")?,
                (_, false) => write!(f, " + ")?,
                (_, true) => write!(f, " - ")?,
            }
            fmt_term(f, factors, coefficient.unsigned_abs())?;
        }
        Ok(())
    }
}

fn fmt_term(f: &mut fmt::Formatter<'_>, factors: &[Factor], coefficient: u64) -> fmt::Result {
    if coefficient != 1 || factors.is_empty() {
        write!(f, "{coefficient}{}", if factors.is_empty() { "" } else { " * " })?;
    }
    for (i, factor) in factors.iter().enumerate() {
        write!(f, "{}", if i == 0 { "" } else { " * " })?;
        match factor {
            Factor::Name(name) => write!(f, "{name}")?,
            Factor::Quotient(a, b) => write!(f, "(({a}) / ({b}))")?,
        }
    }
    Ok(())
}
