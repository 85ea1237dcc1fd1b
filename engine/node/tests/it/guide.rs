//! The guide's table of metrics, held against a page of them. It must not know who made the page.

/// What may follow a name: labels, a value, or the parts of a histogram.
const ENDS: [&str; 5] = ["{", " ", "_bucket{", "_sum", "_count"];

/// Names and labels of the table, row by row.
pub(crate) fn documented() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let guide = include_str!("../../../../docs/guide.md");
    let (_, section) = guide.split_once("## Metrics").expect("the section");
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    rows.filter(|line| line.starts_with("| `"))
        .map(|row| {
            let mut cells = row.split('|').skip(1);
            let names = cells.next().expect("names").split('`').skip(1).step_by(2);
            let labels = cells.next().expect("labels").split([',', '/', ' ', '–']);
            (
                names.collect(),
                labels.filter(|label| !label.is_empty()).collect(),
            )
        })
        .collect()
}

/// Fails unless `page` has a sample of every name of the table, and every label of its row.
#[track_caller]
pub(crate) fn assert_served(page: &str) {
    let rows = documented();
    assert!(rows.len() > 15, "{rows:?}");
    for (names, labels) in rows {
        let mut shown = String::new();
        for name in &names {
            let is_sample = |line: &&str| {
                let rest = line.strip_prefix("ringwatch_");
                rest.and_then(|rest| rest.strip_prefix(name))
                    .is_some_and(|rest| ENDS.iter().any(|end| rest.starts_with(end)))
            };
            let line = page.lines().find(is_sample);
            shown += line.unwrap_or_else(|| panic!("{name} in\n{page}"));
        }
        for label in labels {
            assert!(shown.contains(&format!("{label}=\"")), "{label}: {shown}");
        }
    }
}
