//! Who may reach what, at this instant.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a page leads, and whether it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    /// Physical address of the page.
    pub pa: u64,
    /// Writes are allowed.
    pub writable: bool,
}

/// What a page may lead to now: one thing at rest, two while it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Where it may lead.
    pub pages: BTreeSet<Page>,
    /// Whether it may be refused.
    pub refused: bool,
}

impl Answers {
    fn exactly(page: Option<Page>) -> Self {
        Answers { pages: page.into_iter().collect(), refused: page.is_none() }
    }

    fn widen(&mut self, page: Option<Page>) {
        self.refused |= page.is_none();
        self.pages.extend(page);
    }
}

/// What a domain's tables say.
pub type Tables = BTreeMap<u64, Answers>;

/// The truth that every transaction is held against.
#[derive(Default)]
pub struct Ledger {
    /// The tables of each domain, by page address.
    pub domains: BTreeMap<u32, Tables>,
    /// The domains a stream may be behind now; `None` is abort. Streams not listed abort.
    pub streams: BTreeMap<u32, BTreeSet<Option<u32>>>,
    /// Streams that may pass untranslated, until the SMMU can abort.
    pub open: BTreeSet<u32>,
    /// Streams of devices that are trusted to hold translations (ATS).
    pub trusted: BTreeSet<u32>,
    /// Firmware's tables are in force.
    pub firmware: bool,
    /// The SMMU is broken: refusing is always right now.
    pub broken: bool,
    /// The streams and pages that changed last: where devices look for gaps.
    pub hot_streams: VecDeque<u32>,
    /// See `hot_streams`.
    pub hot_pages: VecDeque<u64>,
}

fn note<T>(recent: &mut VecDeque<T>, item: T) {
    recent.push_back(item);
    if recent.len() > 4 {
        recent.pop_front();
    }
}

impl Ledger {
    /// `page` of `domain` is about to change to `to`: either may be seen.
    pub fn begin_page(&mut self, domain: u32, page: u64, to: Option<Page>) {
        note(&mut self.hot_pages, page);
        let tables = self.domains.entry(domain).or_default();
        tables.entry(page).or_insert_with(|| Answers::exactly(None)).widen(to);
    }

    /// `page` of `domain` has changed: only `to` may be seen.
    pub fn end_page(&mut self, domain: u32, page: u64, to: Option<Page>) {
        self.domains.entry(domain).or_default().insert(page, Answers::exactly(to));
    }

    /// `stream` is about to go behind `domain`.
    pub fn begin_stream(&mut self, stream: u32, domain: Option<u32>) {
        note(&mut self.hot_streams, stream);
        self.streams.entry(stream).or_insert_with(|| BTreeSet::from([None])).insert(domain);
    }

    /// `stream` is behind `domain`, and nothing else.
    pub fn end_stream(&mut self, stream: u32, domain: Option<u32>) {
        self.streams.insert(stream, BTreeSet::from([domain]));
    }

    /// Everything that a transaction of `stream` at `page` may meet now.
    pub fn answers(&self, stream: u32, page: u64) -> Answers {
        let mut all = Answers::default();
        let nothing = BTreeSet::from([None]);
        for domain in self.streams.get(&stream).unwrap_or(&nothing) {
            let tables = domain.and_then(|domain| self.domains.get(&domain));
            match tables.and_then(|tables| tables.get(&page)) {
                Some(answers) => {
                    all.pages.extend(&answers.pages);
                    all.refused |= answers.refused;
                }
                None => all.refused = true,
            }
        }
        all
    }
}
