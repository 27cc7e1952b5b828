//! Maven: the user's `settings.xml` for its mirrors and repositories, and Maven itself for what it uses beside them:
//! asked offline for a project that nobody has, it says where it would have looked.

use std::fs;

use policy::RegistryHost;

use super::machine::{Machine, Output, Question};
use super::{place, utf8};

/// Its parent is nowhere, so that it has to be looked for.
const PROJECT: &str = "<project><modelVersion>4.0.0</modelVersion><parent><groupId>nobody.has.this</groupId>\
    <artifactId>parent</artifactId><version>1</version><relativePath/></parent><artifactId>a</artifactId></project>";

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let settings = machine.home().map(|home| home.join(".m2/settings.xml"));
    let settings = match settings {
        Some(path) => machine.read(&path)?,
        None => None,
    };
    let configured = match &settings {
        Some(text) => configured(utf8(text)?)?,
        None => Configured::default(),
    };
    if configured.all_mirrored {
        return Ok(configured.hosts);
    }
    let mut hosts = configured.hosts;
    hosts.push(own_default(machine)?);
    Ok(hosts)
}

fn own_default(machine: &Machine) -> Result<RegistryHost, String> {
    let broken = |error: std::io::Error| format!("a temporary folder cannot be used: {error}");
    let folder = machine.project()?;
    let project = folder.path().join("pom.xml");
    fs::write(&project, PROJECT).map_err(broken)?;
    // It looks for this folder upwards, and would take programs to run from one that others have put there.
    fs::create_dir(folder.path().join(".mvn")).map_err(broken)?;
    let project = project.to_str().ok_or("the name of the temporary folder is not UTF-8")?;
    let reads: Vec<_> =
        machine.home().into_iter().flat_map(|home| [".m2", ".mavenrc"].map(|name| home.join(name))).collect();
    let answer = machine.ask(&Question {
        program: "mvn",
        arguments: &["--offline", "--batch-mode", "--file", project, "validate"],
        variables: &["JAVA_HOME", "M2_HOME", "MAVEN_HOME"],
        set: &[],
        reads: &reads,
        output: Output::WithErrors,
    })?;
    told(utf8(&answer)?)
}

/// `Cannot access central (https://…) in offline mode`
fn told(answer: &str) -> Result<RegistryHost, String> {
    let told = answer.split("Cannot access ").nth(1).and_then(|rest| rest.split_once(')'));
    let url = told.and_then(|(rest, _)| rest.split_once('(')).map(|(_, url)| url);
    place(url.ok_or_else(|| "Maven does not say which repository it uses".to_owned())?)
}

#[derive(Debug, Default, PartialEq)]
struct Configured {
    hosts: Vec<RegistryHost>,
    /// Everything comes from a mirror.
    all_mirrored: bool,
}

fn configured(settings: &str) -> Result<Configured, String> {
    let settings = without_comments(settings);
    let mut found = Configured::default();
    for mirror in elements(&settings, "mirror") {
        if element(mirror, "blocked") != Some("true") {
            let of = element(mirror, "mirrorOf").unwrap_or_default();
            found.all_mirrored |= of.split(',').any(|of| of.trim() == "*") && !of.contains('!');
            found.hosts.push(place(element(mirror, "url").unwrap_or_default())?);
        }
    }
    if !found.all_mirrored {
        for name in ["repository", "pluginRepository"] {
            for repository in elements(&settings, name) {
                found.hosts.push(place(element(repository, "url").unwrap_or_default())?);
            }
        }
    }
    Ok(found)
}

fn without_comments(text: &str) -> zeroize::Zeroizing<String> {
    let mut kept = zeroize::Zeroizing::new(String::with_capacity(text.len()));
    for (number, part) in text.split("<!--").enumerate() {
        let part = if number == 0 { part } else { part.split_once("-->").map_or("", |(_, after)| after) };
        kept.push_str(part);
    }
    kept
}

/// The contents of all elements of a name that has no attributes, as those of this file.
fn elements<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect()
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    elements(text, name).first().map(|value| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::names;

    const SETTINGS: &str = "<settings><servers><server><id>m</id><password>pw</password></server></servers>\
        <!-- <mirror><url>https://comment.registry.example</url></mirror> -->\
        <mirrors><mirror><id>m</id><mirrorOf>OF</mirrorOf><url>https://mirror.registry.example/maven2</url></mirror>\
        <mirror><mirrorOf>external:http:*</mirrorOf><url>http://0.0.0.0/</url><blocked>true</blocked></mirror></mirrors>\
        <profiles><profile><repositories><repository><id>r</id><url>http://own.registry.example:8081/r</url>\
        </repository></repositories></profile></profiles></settings>";

    #[test]
    fn settings_name_mirrors_and_repositories() {
        let found = configured(&SETTINGS.replace("OF", "*")).unwrap();
        assert_eq!((names(&found.hosts), found.all_mirrored), (vec!["mirror.registry.example"], true));
        let found = configured(&SETTINGS.replace("OF", "central")).unwrap();
        assert_eq!(names(&found.hosts), ["mirror.registry.example", "own.registry.example"]);
        assert!(!found.all_mirrored);
        let found = configured(&SETTINGS.replace("OF", "*,!r")).unwrap();
        assert!(!found.all_mirrored);
    }

    #[test]
    fn its_answer_is_understood() {
        let answer = "[FATAL] Non-resolvable parent POM for a: Cannot access central (https://maven.registry.example/m2) \
                      in offline mode and the artifact…";
        assert_eq!(told(answer).unwrap().host, "maven.registry.example");
        assert!(told("[ERROR] JAVA_HOME is not set").is_err());
    }

    #[test]
    fn maven_itself_tells_its_default_or_its_mirror() {
        if !super::super::can_run("mvn", &["--version"]) {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let path = std::env::var("PATH").unwrap();
        let variables = [("PATH", path.as_str()), ("HOME", home.path().to_str().unwrap())];
        let machine = Machine::new(&variables, home.path());
        assert_eq!(hosts(&machine).unwrap().len(), 1, "its default is compiled in");
        fs::create_dir(home.path().join(".m2")).unwrap();
        fs::write(home.path().join(".m2/settings.xml"), SETTINGS.replace("OF", "*")).unwrap();
        let found = hosts(&machine).unwrap();
        assert_eq!(
            found.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(),
            ["mirror.registry.example"]
        );
    }
}
