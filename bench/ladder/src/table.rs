//! Tables for people: aligned in a terminal and valid Markdown, in one form.

pub(crate) use crate::figures::grouped;

/// Rows under a head; the first column is left-aligned, the others right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row of as many cells as the head has.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Markdown whose columns line up as plain text too.
    pub(crate) fn markdown(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(2)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.insert(1, rule(&widths));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| {
            if column == 0 {
                format!(" {cell:<width$} ")
            } else {
                format!(" {cell:>width$} ")
            }
        });
    format!("|{}|", cells.collect::<Vec<_>>().join("|"))
}

fn rule(widths: &[usize]) -> String {
    let cells = widths.iter().enumerate().map(|(column, &width)| {
        let end = if column == 0 { "-" } else { ":" };
        format!("{}{end}", "-".repeat(width + 1))
    });
    format!("|{}|", cells.collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_are_markdown() {
        let mut table = Table::new(&["name", "µs"]);
        table.row(["a".to_owned(), "1.5".to_owned()]);
        table.row(["longer".to_owned(), "10.25".to_owned()]);
        let expected = "\
| name   |    µs |
|--------|------:|
| a      |   1.5 |
| longer | 10.25 |
";
        assert_eq!(table.markdown(), expected);
    }
}
