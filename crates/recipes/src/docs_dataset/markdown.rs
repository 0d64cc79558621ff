//! Markdown cut at its headings.

/// Shorter texts teach nothing; longer ones are cut off by every training anyway.
const SHORTEST: usize = 40;
const LONGEST: usize = 4000;

/// The text under one heading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// Of the page.
    pub title: String,
    /// Of the section; `None` for what comes before the first one.
    pub heading: Option<String>,
    pub text: &'a str,
}

impl Section<'_> {
    /// What somebody would ask to be told this, in the language of the page.
    pub fn question(&self) -> String {
        let Section { title, heading, .. } = self;
        let heading = heading.as_ref().filter(|heading| *heading != title);
        let is_chinese = self.text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        match (heading, is_chinese) {
            (Some(heading), true) => format!("请介绍 SAGE 文档《{title}》中的“{heading}”。"),
            (Some(heading), false) => format!("What does the SAGE documentation say about \"{heading}\" ({title})?"),
            (None, true) => format!("请介绍 SAGE 文档《{title}》的内容。"),
            (None, false) => format!("What does the SAGE documentation say about \"{title}\"?"),
        }
    }
}

/// Cuts a page at its headings of the first three levels. `name` is its title where it has none.
pub(super) fn sections<'a>(page: &'a str, name: &str) -> Vec<Section<'a>> {
    let body = without_front_matter(page);
    let (mut title, mut heading) = (None::<String>, None);
    let mut sections = Vec::new();
    let (mut start, mut position, mut fence) = (0, 0, None);
    for line in body.split_inclusive('\n') {
        let begins = position;
        position += line.len();
        // In a block of code "# …" is a comment.
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(open), Some(close)) if open == close => fence = None,
            _ => {}
        }
        let Some((level, text)) = heading_of(line).filter(|_| fence.is_none()) else { continue };
        sections.push((title.clone(), heading.take(), &body[start..begins]));
        start = position;
        if level == 1 && title.is_none() {
            title = Some(text.to_owned());
        } else {
            heading = Some(text.to_owned());
        }
    }
    sections.push((title, heading, &body[start..]));
    let long_enough = sections.into_iter().map(|(title, heading, text)| (title, heading, shorten(text.trim())));
    let long_enough = long_enough.filter(|(_, _, text)| text.chars().count() >= SHORTEST);
    let name_it = |(title, heading, text): (Option<String>, _, _)| {
        let title = title.unwrap_or_else(|| name.to_owned());
        Section { title, heading, text }
    };
    long_enough.map(name_it).collect()
}

fn heading_of(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let text = line[level..].strip_prefix([' ', '\t'])?.trim().trim_end_matches('#').trim_end();
    ((1..=3).contains(&level) && !text.is_empty()).then_some((level, text))
}

/// Settings between two lines of dashes at the start of a page.
fn without_front_matter(page: &str) -> &str {
    let page = page.trim_start_matches('\u{feff}');
    let Some(rest) = page.strip_prefix("---\n") else { return page };
    rest.split_once("\n---\n").map_or(page, |(_, body)| body)
}

/// At most the longest text, cut after a paragraph if there is one.
fn shorten(text: &str) -> &str {
    let Some((end, _)) = text.char_indices().nth(LONGEST) else { return text };
    let text = &text[..end];
    text.rfind("\n\n").filter(|cut| *cut > end / 2).map_or(text, |cut| &text[..cut]).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILLER: &str = "A sentence that is long enough to be kept as a text.";

    #[test]
    fn pages_are_cut_at_headings_but_not_in_code() {
        let page = format!(
            "---\ntags: x\n---\n# Guide #\n\n{FILLER}\n## Install\n{FILLER}\n```sh\n# a comment\n```\n#### Detail\nmore\n\
             ## Short\nno\n### 用法\n这一段说明如何使用 SAGE 的各个组件，文字足够长，因此会被保留下来，作为一个样本，用于训练模型。\n"
        );
        let sections = sections(&page, "guide");
        let headings: Vec<_> =
            sections.iter().map(|section| (section.title.as_str(), section.heading.as_deref())).collect();
        assert_eq!(headings, [("Guide", None), ("Guide", Some("Install")), ("Guide", Some("用法"))]);
        assert_eq!(sections[0].text, FILLER);
        assert!(sections[1].text.contains("# a comment") && sections[1].text.ends_with("more"));
        assert_eq!(sections[0].question(), "What does the SAGE documentation say about \"Guide\"?");
        assert_eq!(sections[2].question(), "请介绍 SAGE 文档《Guide》中的“用法”。");
    }

    #[test]
    fn odd_pages_do_no_harm() {
        assert_eq!(sections("", "x"), []);
        assert_eq!(sections("#\n##\n####### seven\n", "x"), []);
        let page = format!("```\n# never closed\n{FILLER}");
        assert_eq!(sections(&page, "x")[0].title, "x");
        let long = format!("# T\n{}\n\n{}", "段".repeat(3000), "落".repeat(3000));
        assert_eq!(sections(&long, "x")[0].text.chars().count(), 3000, "cut after the paragraph");
    }
}
