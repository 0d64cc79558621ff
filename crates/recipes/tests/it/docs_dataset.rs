use std::fs;

use crate::support::{Answer, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use recipes::dataset::{self, Format};
use recipes::docs_dataset::prepare;

fn archive(pages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in pages {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

const PAGE: &[u8] = b"# Install\n\nSAGE is installed with one command, which also fetches what it needs.\n\n\
    ## Requirements\nLinux and Python, with a GPU if large models shall be served.\n";

#[test]
fn the_pages_of_an_archive_become_a_valid_data_set() {
    let pages: [(&str, &[u8]); 6] = [
        ("SAGE-Pub-main/docs_src/install.md", PAGE),
        ("SAGE-Pub-main/docs_src/dev-notes/todo.md", PAGE),
        ("SAGE-Pub-main/.github/issue.md", PAGE),
        ("SAGE-Pub-main/mkdocs.yml", b"not a page"),
        ("SAGE-Pub-main/docs_src/latin1.md", b"# T\xe9\xe9\n"),
        ("SAGE-Pub-main/docs_src/empty.md", b""),
    ];
    let content = archive(&pages);
    let server = Server::start(move |request| match request.path.as_str() {
        "/docs" => Answer::redirect("/moved.tar.gz"),
        _ => Answer::ok(content.clone()),
    });
    let temp = tempfile::tempdir().unwrap();
    let uploads = temp.path().join("uploads");
    for _ in 0..2 {
        let made = prepare(&format!("{}/docs", server.address), &uploads).unwrap();
        assert_eq!((made.path.clone(), made.samples), (uploads.join("sage_docs.jsonl"), 2));
        let report = dataset::check(&made.path).unwrap();
        assert_eq!((report.format, report.examples), (Format::Alpaca, 2));
        assert_eq!(report.preview[1].0, "What does the SAGE documentation say about \"Requirements\" (Install)?");
    }
    assert_eq!(fs::read_dir(&uploads).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn what_goes_wrong_is_told_and_an_earlier_data_set_stays() {
    let temp = tempfile::tempdir().unwrap();
    let earlier = temp.path().join("sage_docs.jsonl");
    fs::write(&earlier, "earlier").unwrap();
    let refused = |url: &str| {
        let error = prepare(url, temp.path()).unwrap_err();
        assert!(error.to_string().contains(". "), "{error}");
        assert_eq!(fs::read_to_string(&earlier).unwrap(), "earlier");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        error.code()
    };

    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(refused(&format!("http://{dead}/")), "docs-unreachable");
    assert_eq!(refused("not an address"), "docs-unreachable");
    assert_eq!(refused(&Server::start(|_| Answer::status(404)).address), "docs-unexpected-answer");
    assert_eq!(refused(&Server::start(|_| Answer::ok("text")).address), "docs-bad-archive");
    let cut = archive(&[("a/page.md", PAGE), ("a/more.md", &[b'x'; 100_000])]);
    let server = Server::start(move |_| Answer { break_after: Some(cut.len() - 50), ..Answer::ok(cut.clone()) });
    assert_eq!(refused(&server.address), "docs-bad-archive");
    let none = archive(&[("a/page.txt", PAGE)]);
    assert_eq!(refused(&Server::start(move |_| Answer::ok(none.clone())).address), "docs-no-pages");
}
