//! Markdown being written: white space collapsed, blocks set apart, code and tables in their form.
//!
//! Does not know tags. Whatever the order of the calls, the output is well-formed text.

/// What is written before the next text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

/// Where text goes.
#[derive(Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Flow,
    /// On one line, behind the marks of a heading.
    Heading(usize),
    /// On one line, between bars.
    Cell,
    /// As it is, between fences.
    Code { language: Option<String> },
}

#[derive(Default)]
pub(super) struct Writer {
    out: String,
    gap: Gap,
    mode: Mode,
    /// The heading or code block being read.
    held: String,
    /// What begins the next line: the mark of a list item.
    prefix: String,
    /// Rows written of the table being read, and cells of its present row.
    rows: usize,
    cells: usize,
}

impl Writer {
    pub(super) fn finish(mut self) -> String {
        self.end_heading();
        self.end_code();
        self.end_table();
        self.out
    }

    pub(super) fn text(&mut self, text: &str) {
        if matches!(self.mode, Mode::Code { .. }) {
            self.held.push_str(text);
            return;
        }
        if text.starts_with(is_space) {
            self.gap = self.gap.max(Gap::Space);
        }
        let mut words = text.split(is_space).filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            self.word(word);
            if words.peek().is_some() || text.ends_with(is_space) {
                self.gap = Gap::Space;
            }
        }
    }

    fn word(&mut self, word: &str) {
        if matches!(self.mode, Mode::Heading(_)) {
            if self.gap != Gap::None && !self.held.is_empty() {
                self.held.push(' ');
            }
            self.gap = Gap::None;
            self.held.push_str(word);
            return;
        }
        self.write_gap();
        let begins_line = self.out.is_empty() || self.out.ends_with('\n');
        if begins_line && self.prefix.is_empty() && means_structure(word) {
            self.out.push('\\');
        }
        self.out.push_str(&std::mem::take(&mut self.prefix));
        self.out.push_str(word);
    }

    fn write_gap(&mut self) {
        let gap = std::mem::take(&mut self.gap);
        if self.out.is_empty() || self.out.ends_with("\n\n") {
            return;
        }
        match gap {
            Gap::None => {}
            Gap::Space if self.out.ends_with([' ', '\n']) => {}
            Gap::Space => self.out.push(' '),
            Gap::Line if self.out.ends_with('\n') => {}
            Gap::Line => self.out.push('\n'),
            Gap::Paragraph if self.out.ends_with('\n') => self.out.push('\n'),
            Gap::Paragraph => self.out.push_str("\n\n"),
        }
    }

    pub(super) fn line(&mut self) {
        self.break_with(Gap::Line);
    }

    pub(super) fn paragraph(&mut self) {
        self.break_with(Gap::Paragraph);
    }

    fn break_with(&mut self, gap: Gap) {
        match &self.mode {
            Mode::Flow => self.gap = self.gap.max(gap),
            Mode::Heading(_) | Mode::Cell => self.gap = self.gap.max(Gap::Space),
            Mode::Code { .. } if !self.held.ends_with('\n') => self.held.push('\n'),
            Mode::Code { .. } => {}
        }
    }

    pub(super) fn item(&mut self, depth: usize, mark: &str) {
        self.line();
        if self.mode == Mode::Flow {
            self.prefix = format!("{:width$}{mark}", "", width = 2 * depth.min(8));
        }
    }

    pub(super) fn code_mark(&mut self) {
        if self.mode == Mode::Flow || self.mode == Mode::Cell {
            self.write_gap();
            self.out.push_str(&std::mem::take(&mut self.prefix));
            self.out.push('`');
        }
    }

    pub(super) fn start_heading(&mut self, level: usize) {
        self.leave_block();
        self.mode = Mode::Heading(level);
    }

    pub(super) fn end_heading(&mut self) {
        let Mode::Heading(level) = self.mode else { return };
        self.mode = Mode::Flow;
        let text = std::mem::take(&mut self.held);
        self.prefix.clear();
        self.gap = Gap::Paragraph;
        if !text.is_empty() {
            self.write_gap();
            self.out.extend(std::iter::repeat_n('#', level));
            self.out.push(' ');
            self.out.push_str(&text);
        }
        self.gap = Gap::Paragraph;
    }

    pub(super) fn start_code(&mut self, language: Option<String>) {
        self.leave_block();
        self.mode = Mode::Code { language };
    }

    /// The language of a code block is often named by an element inside it.
    pub(super) fn hint_language(&mut self, hint: Option<String>) {
        if let Mode::Code { language } = &mut self.mode
            && language.is_none()
        {
            *language = hint;
        }
    }

    pub(super) fn end_code(&mut self) {
        let Mode::Code { language } = std::mem::take(&mut self.mode) else { return };
        let code = std::mem::take(&mut self.held);
        let code = code.trim_matches('\n').trim_end();
        self.prefix.clear();
        if !code.is_empty() {
            let fence = if code.contains("```") { "~~~~" } else { "```" };
            self.gap = Gap::Paragraph;
            self.write_gap();
            self.out.push_str(&format!("{fence}{}\n{code}\n{fence}", language.unwrap_or_default()));
        }
        self.gap = Gap::Paragraph;
    }

    pub(super) fn start_table(&mut self) {
        self.leave_block();
        self.rows = 0;
    }

    pub(super) fn start_row(&mut self) {
        self.end_row();
        self.cells = 0;
    }

    pub(super) fn cell(&mut self) {
        if matches!(self.mode, Mode::Flow | Mode::Cell) {
            if self.cells == 0 {
                self.gap = if self.rows == 0 { Gap::Paragraph } else { Gap::Line };
                self.mode = Mode::Flow;
                self.write_gap();
                self.out.push_str("| ");
            } else {
                self.out.push_str(if self.out.ends_with(' ') { "| " } else { " | " });
            }
            self.gap = Gap::None;
            self.cells += 1;
            self.mode = Mode::Cell;
        }
    }

    pub(super) fn end_row(&mut self) {
        if self.mode != Mode::Cell {
            return;
        }
        self.out.push_str(" |");
        if self.rows == 0 {
            self.out.push_str("\n|");
            self.out.extend(std::iter::repeat_n("---|", self.cells));
        }
        self.rows += 1;
        self.cells = 0;
        self.mode = Mode::Flow;
        self.gap = Gap::Line;
    }

    pub(super) fn end_table(&mut self) {
        self.end_row();
        self.paragraph();
    }

    /// Ends what cannot contain the block that begins: a heading, a code block, or the cell of a table that was
    /// used for layout.
    fn leave_block(&mut self) {
        self.end_heading();
        self.end_code();
        if self.mode == Mode::Cell {
            self.mode = Mode::Flow;
        }
        self.paragraph();
    }
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{a0}'
}

/// Whether a word at the beginning of a line would make a heading, a code block or raw HTML of it.
fn means_structure(word: &str) -> bool {
    word.starts_with(['#', '<', '=']) || ["```", "~~~", "--", "++"].iter().any(|mark| word.starts_with(mark))
}
