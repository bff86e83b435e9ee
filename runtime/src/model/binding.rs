//! Works out a compiled model's sizes and settings from `config.json`, and keeps every fault on the way.
//!
//! Generated code names each dim and param once, in the order of the graph, with the same arithmetic the porter wrote:
//! `let head = read.size(dim::HEAD, read.key("head_dim").or(hidden / heads));`. A definition that fails is reported
//! once; what depends on it is [`Quantity::Unknown`] and says nothing more.

use std::ops::{Add, Div, Mul, Sub};

use serde_json::Value;

use super::ConfigFault;
use crate::checkpoint::Config;

/// A size while it is worked out.
pub type Size = Quantity<u64>;
/// A setting while it is worked out.
pub type Setting = Quantity<f64>;

/// The largest size: rows and columns are counted in 32 bits, and some devices take them as signed.
pub const MAX_SIZE: u64 = i32::MAX as u64;

/// A number that may be missing or impossible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity<T> {
    /// A number.
    Known(T),
    /// It reads a key that is not there.
    Absent,
    /// Known only when a step is formed, or made of something that was reported already.
    Unknown,
    /// What stands under this key is no such number.
    NotANumber(&'static str),
    /// A division that leaves a rest, or by zero.
    Uneven(T, T),
    /// A sum, difference or product outside the range of numbers.
    OutOfRange,
}

impl<T: Number> Quantity<T> {
    /// This, or the other where a key of this is not there.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        if matches!(self, Quantity::Absent) { other.into() } else { self }
    }

    fn combine(self, other: Self, result: impl Fn(T, T) -> Self) -> Self {
        match (self, other) {
            (Quantity::Known(a), Quantity::Known(b)) => result(a, b),
            (Quantity::Known(_), other) => other,
            (own, _) => own,
        }
    }
}

impl Size {
    /// The size as a setting.
    pub fn as_setting(self) -> Setting {
        match self {
            Quantity::Known(size) => Quantity::Known(size as f64),
            Quantity::Absent => Quantity::Absent,
            Quantity::NotANumber(key) => Quantity::NotANumber(key),
            Quantity::Unknown | Quantity::Uneven(..) | Quantity::OutOfRange => Quantity::Unknown,
        }
    }
}

impl Setting {
    /// The setting as a size; out of range where it is no whole number.
    pub fn as_size(self) -> Size {
        match self {
            Quantity::Known(setting) if setting >= 0.0 && setting.fract() == 0.0 && setting <= MAX_SIZE as f64 => {
                Quantity::Known(setting as u64)
            }
            Quantity::Known(_) | Quantity::OutOfRange => Quantity::OutOfRange,
            Quantity::Absent => Quantity::Absent,
            Quantity::NotANumber(key) => Quantity::NotANumber(key),
            Quantity::Unknown | Quantity::Uneven(..) => Quantity::Unknown,
        }
    }

    /// Its square root.
    #[must_use]
    pub fn sqrt(self) -> Self {
        self.map(f64::sqrt)
    }

    /// Its natural logarithm.
    #[must_use]
    pub fn ln(self) -> Self {
        self.map(f64::ln)
    }

    /// The largest whole number that is not larger.
    #[must_use]
    pub fn floor(self) -> Self {
        self.map(f64::floor)
    }

    fn map(self, of: impl Fn(f64) -> f64) -> Self {
        if let Quantity::Known(setting) = self { finite(of(setting)) } else { self }
    }
}

impl<T: Number> From<T> for Quantity<T> {
    fn from(number: T) -> Self {
        Quantity::Known(number)
    }
}

/// What sizes and settings are made of.
pub trait Number: Copy {
    /// Reads it from a configuration.
    fn read(value: &Value) -> Option<Self>;
    /// `self + other`, if it is such a number.
    fn plus(self, other: Self) -> Quantity<Self>;
    /// `self - other`, if it is such a number.
    fn minus(self, other: Self) -> Quantity<Self>;
    /// `self * other`, if it is such a number.
    fn times(self, other: Self) -> Quantity<Self>;
    /// `self / other`, if it is such a number.
    fn over(self, other: Self) -> Quantity<Self>;
}

impl Number for u64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
    fn plus(self, other: Self) -> Quantity<Self> {
        self.checked_add(other).map_or(Quantity::OutOfRange, Quantity::Known)
    }
    fn minus(self, other: Self) -> Quantity<Self> {
        self.checked_sub(other).map_or(Quantity::OutOfRange, Quantity::Known)
    }
    fn times(self, other: Self) -> Quantity<Self> {
        self.checked_mul(other).map_or(Quantity::OutOfRange, Quantity::Known)
    }
    fn over(self, other: Self) -> Quantity<Self> {
        let is_whole = self.checked_rem(other) == Some(0);
        if is_whole { Quantity::Known(self / other) } else { Quantity::Uneven(self, other) }
    }
}

impl Number for f64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_f64().or_else(|| value.as_bool().map(|value| f64::from(u8::from(value))))
    }
    fn plus(self, other: Self) -> Quantity<Self> {
        finite(self + other)
    }
    fn minus(self, other: Self) -> Quantity<Self> {
        finite(self - other)
    }
    fn times(self, other: Self) -> Quantity<Self> {
        finite(self * other)
    }
    fn over(self, other: Self) -> Quantity<Self> {
        finite(self / other)
    }
}

fn finite(number: f64) -> Setting {
    if number.is_finite() { Quantity::Known(number) } else { Quantity::OutOfRange }
}

impl<T: Number> Add for Quantity<T> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, T::plus)
    }
}

impl<T: Number> Sub for Quantity<T> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, T::minus)
    }
}

impl<T: Number> Mul for Quantity<T> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.combine(other, T::times)
    }
}

impl<T: Number> Div for Quantity<T> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        self.combine(other, T::over)
    }
}

/// A value that a graph expects under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Literal {
    /// Absent or null.
    None,
    /// Whatever it is.
    Any,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(&'static str),
    /// A list.
    List(&'static [Literal]),
}

impl Literal {
    fn is(self, found: Option<&Value>) -> bool {
        match self {
            Literal::None => found.is_none(),
            Literal::Any => true,
            Literal::Bool(wanted) => found.and_then(Value::as_bool) == Some(wanted),
            Literal::Number(wanted) => found.and_then(Value::as_f64) == Some(wanted),
            Literal::Text(wanted) => found.and_then(Value::as_str) == Some(wanted),
            Literal::List(wanted) => found.and_then(Value::as_array).is_some_and(|found| {
                found.len() == wanted.len() && wanted.iter().zip(found).all(|(wanted, found)| wanted.is(Some(found)))
            }),
        }
    }
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Literal::None => write!(f, "absent"),
            Literal::Any => write!(f, "anything"),
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Number(value) => write!(f, "{value}"),
            Literal::Text(value) => write!(f, "{value:?}"),
            Literal::List(values) => {
                let values: Vec<_> = values.iter().map(Literal::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
        }
    }
}

/// A name of a graph with the expression that gives its value, as the porter wrote it; for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The dim or param.
    pub name: &'static str,
    /// Its expression.
    pub expression: &'static str,
}

/// A configuration being read for one graph.
pub struct Binding<'a> {
    graph: &'static str,
    dims: &'static [Definition],
    params: &'static [Definition],
    config: &'a Config,
    sizes: Vec<usize>,
    settings: Vec<f64>,
    blocks: Vec<u16>,
    context: Option<usize>,
    faults: Vec<ConfigFault>,
}

/// Which block each layer of a repeat has.
#[derive(Debug, Clone, Copy)]
pub struct LayerPattern {
    /// One period of blocks, by number.
    pub cycle: &'static [u16],
    /// Keys with a list of the layers' kinds: the first that is there stands in place of the cycle.
    pub keys: &'static [&'static str],
    /// The block of each kind.
    pub kinds: &'static [(Literal, u16)],
}

/// What a configuration gives.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundSizes {
    /// Dims by number; those that only a step knows are 0.
    pub dims: Vec<usize>,
    /// Params by number.
    pub params: Vec<f64>,
    /// The block of each layer.
    pub blocks: Vec<u16>,
    /// The longest sequence, in tokens.
    pub context: Option<usize>,
}

impl<'a> Binding<'a> {
    /// Begins to read `config` for `graph`, which defines these dims and params.
    pub fn new(
        graph: &'static str,
        dims: &'static [Definition],
        params: &'static [Definition],
        config: &'a Config,
    ) -> Self {
        let (sizes, settings) = (vec![0; dims.len()], vec![0.0; params.len()]);
        Self { graph, dims, params, config, sizes, settings, blocks: vec![], context: None, faults: vec![] }
    }

    /// Refuses a configuration that holds something else under `key`.
    pub fn expect(&mut self, key: &'static str, one_of: &[Literal]) {
        let found = self.config.get(key);
        if !one_of.iter().any(|literal| literal.is(found)) {
            let needs: Vec<_> = one_of.iter().map(Literal::to_string).collect();
            self.unusable(key, &needs.join(" or "));
        }
    }

    /// The number under a key.
    pub fn key<T: Number>(&self, path: &'static str) -> Quantity<T> {
        match self.config.get(path) {
            None => Quantity::Absent,
            Some(value) => T::read(value).map_or(Quantity::NotANumber(path), Quantity::Known),
        }
    }

    /// Takes note of dim number `dim`; from 1 to [`MAX_SIZE`].
    pub fn size(&mut self, dim: usize, found: Size) -> Size {
        let size = self.checked(self.dims[dim], found);
        if let Quantity::Known(size) = size {
            self.sizes[dim] = size as usize;
        }
        size
    }

    /// Takes note of dim number `dim`, which may be 0.
    pub fn count(&mut self, dim: usize, found: Size) -> Size {
        if found == Quantity::Known(0) { found } else { self.size(dim, found) }
    }

    /// Takes note of the longest sequence, where the configuration tells.
    pub fn context(&mut self, expression: &'static str, found: Size) {
        if !matches!(found, Quantity::Absent)
            && let Quantity::Known(context) = self.checked(Definition { name: "context", expression }, found)
        {
            self.context = Some(context as usize);
        }
    }

    /// Refuses sizes that do not go together: `found` must be a whole number, and not negative. `values` are the sizes
    /// that it is made of.
    pub fn condition(&mut self, what: &'static str, found: Size, values: &[(&'static str, Size)]) {
        if matches!(found, Quantity::Uneven(..) | Quantity::OutOfRange) {
            let known = values.iter().filter_map(|(name, value)| match value {
                Quantity::Known(value) => Some(format!("{name} is {value}")),
                _ => None,
            });
            let values = known.collect::<Vec<_>>().join(", ");
            self.faults.push(ConfigFault::Condition { graph: self.graph, what, values });
        }
    }

    /// Takes note of the layers of a repeat, which are `times` many.
    pub fn layers(&mut self, expression: &'static str, times: Size, pattern: &LayerPattern) {
        let Quantity::Known(times) = times else { return self.derived(expression, times) };
        let times = times as usize;
        let found = pattern.keys.iter().find_map(|key| Some((*key, self.config.get(key)?)));
        let blocks = match found {
            None => Ok(pattern.cycle.iter().copied().cycle().take(times).collect()),
            Some((key, kinds)) => of_kinds(kinds, times, pattern).map_err(|what| (key, what)),
        };
        match blocks {
            Ok(blocks) => self.blocks.extend::<Vec<u16>>(blocks),
            Err((key, what)) => self.faults.push(ConfigFault::Kinds { graph: self.graph, key, what }),
        }
    }

    /// Takes note of a size that is in no table of dims, such as a weight's; from 1 to [`MAX_SIZE`].
    pub fn derived(&mut self, expression: &'static str, found: Size) {
        self.checked(Definition { name: expression, expression }, found);
    }

    fn checked(&mut self, definition: Definition, found: Size) -> Size {
        let (graph, Definition { name, expression }) = (self.graph, definition);
        match found {
            Quantity::Known(1..=MAX_SIZE) => return found,
            Quantity::Known(_) | Quantity::OutOfRange => {
                self.faults.push(ConfigFault::OutOfRange { graph, name, expression });
            }
            Quantity::Uneven(left, right) => {
                let (left, right) = (left as usize, right as usize);
                self.faults.push(ConfigFault::Uneven { graph, name, expression, left, right });
            }
            Quantity::Absent => self.missing(definition),
            Quantity::NotANumber(key) => self.unusable(key, "a whole number"),
            Quantity::Unknown => {}
        }
        Quantity::Unknown
    }

    /// Takes note of param number `param`.
    pub fn setting(&mut self, param: usize, found: Setting) -> Setting {
        let (graph, definition) = (self.graph, self.params[param]);
        let Definition { name, expression } = definition;
        match found {
            Quantity::Known(setting) => {
                self.settings[param] = setting;
                return found;
            }
            Quantity::OutOfRange | Quantity::Uneven(..) => {
                self.faults.push(ConfigFault::OutOfRange { graph, name, expression });
            }
            Quantity::Absent => self.missing(definition),
            Quantity::NotANumber(key) => self.unusable(key, "a number"),
            Quantity::Unknown => {}
        }
        Quantity::Unknown
    }

    /// Everything that was taken note of.
    ///
    /// # Errors
    /// Everything that was found to be wrong.
    pub fn finish(self) -> Result<BoundSizes, Vec<ConfigFault>> {
        let Self { graph, sizes: dims, settings: params, blocks, context, mut faults, .. } = self;
        if faults.is_empty() && blocks.is_empty() {
            faults.push(ConfigFault::OutOfRange { graph, name: "layers", expression: "0" });
        }
        if faults.is_empty() { Ok(BoundSizes { dims, params, blocks, context }) } else { Err(faults) }
    }

    fn missing(&mut self, Definition { name, expression }: Definition) {
        let is_part_of_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let words = expression.split(|c| !is_part_of_path(c));
        let keys: Vec<_> = words.filter_map(|word| word.strip_prefix("config.")).collect();
        self.faults.push(ConfigFault::Missing { graph: self.graph, name, keys: keys.join(" or ") });
    }

    fn unusable(&mut self, key: &'static str, needs: &str) {
        let value = self.config.get(key).map_or_else(|| "absent".to_owned(), shortened);
        let fault = ConfigFault::Unusable { graph: self.graph, key: key.to_owned(), value, needs: needs.to_owned() };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// The blocks of layers whose kinds a configuration lists, or what is wrong with the list.
fn of_kinds(kinds: &Value, times: usize, pattern: &LayerPattern) -> Result<Vec<u16>, String> {
    let list = kinds.as_array().ok_or_else(|| format!("is {}, not a list of the layers' kinds", shortened(kinds)))?;
    if list.len() != times {
        return Err(format!("has {} entries, and there are {times} layers", list.len()));
    }
    let block = |kind: &Value| {
        let found = pattern.kinds.iter().find(|(own, _)| own.is(Some(kind)));
        found.map(|(_, block)| *block).ok_or_else(|| {
            let known: Vec<_> = pattern.kinds.iter().map(|(kind, _)| kind.to_string()).collect();
            format!("has a layer of kind {}, and the graph has layers of {}", shortened(kind), known.join(" and "))
        })
    };
    list.iter().map(block).collect()
}

/// A value as it stands in the file, without the bulk of a large one.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 64 { text } else { text.chars().take(64).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [Definition; 3] = [
        Definition { name: "first", expression: "config.a ?? config.deep.er" },
        Definition { name: "second", expression: "config.b * 2" },
        Definition { name: "third", expression: "step" },
    ];

    fn config() -> Config {
        Config::from_json(r#"{"a": 12, "b": 5, "zero": 0, "huge": 1e300, "text": "x", "deep": {"er": 2.5}}"#).unwrap()
    }

    fn faults(read: impl FnOnce(&mut Binding<'_>)) -> Vec<String> {
        let config = config();
        let mut binding = Binding::new("test", &NAMES, &NAMES, &config);
        read(&mut binding);
        binding.finish().err().unwrap_or_default().iter().map(ConfigFault::to_string).collect()
    }

    #[test]
    fn numbers_come_in_the_order_of_choices() {
        let config = config();
        let mut read = Binding::new("test", &NAMES, &NAMES, &config);
        let a = read.size(0, read.key("a"));
        read.size(1, read.key("c").or(a / Quantity::from(4)));
        read.setting(0, read.key("deep.er").or(1.0));
        read.setting(1, read.key("no").or(a.as_setting() * Quantity::from(0.5)));
        read.layers("a", a, &LayerPattern { cycle: &[0, 0, 1], keys: &["kinds"], kinds: &[] });
        let bound = read.finish().unwrap();
        assert_eq!(bound.blocks[..4], [0, 0, 1, 0]);
        assert_eq!((bound.dims, bound.params), (vec![12, 3, 0], vec![2.5, 6.0, 0.0]));
    }

    #[test]
    fn each_fault_is_told_once_with_its_key() {
        let told = faults(|read| {
            let lost = read.size(0, read.key("no").or(read.key("such.key")));
            read.size(1, lost * Quantity::from(2));
            let (a, b): (Size, Size) = (read.key("a"), read.key("b"));
            read.derived("a / b", a / b);
            read.derived("b - a", b - a);
            read.size(1, read.key("zero"));
            read.size(1, read.key("text"));
            read.setting(0, read.key("text"));
            read.setting(1, read.key("huge") * read.key("huge"));
        });
        let expected = [
            "config.json lacks a or deep.er (needed for `first` of graph test)",
            "config.json: `a / b` = a / b is 12 / 5, not a whole number (graph test)",
            "config.json: `b - a` = b - a is out of range (graph test)",
            "config.json: `second` = config.b * 2 is out of range (graph test)",
            "config.json: text is \"x\", graph test needs a whole number",
            "config.json: text is \"x\", graph test needs a number",
            "config.json: `second` = config.b * 2 is out of range (graph test)",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn expectations_name_the_key_and_what_would_do() {
        let told = faults(|read| {
            read.expect("text", &[Literal::Text("x")]);
            read.expect("nothing", &[Literal::None, Literal::Bool(false)]);
            read.expect("a", &[Literal::None, Literal::Number(13.0)]);
            read.expect("nothing", &[Literal::Bool(true)]);
        });
        let expected = [
            "config.json: a is 12, graph test needs absent or 13",
            "config.json: nothing is absent, graph test needs true",
        ];
        assert_eq!(told, expected);
    }
}
