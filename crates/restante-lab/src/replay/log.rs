//! Reads the log of an IRC channel as steps in their order: persons come, go, and say something. Pure.
//!
//! A line is one of
//!
//! - `[hh:mm] <nick> text`: a message
//! - `=== nick [~user@host]  has joined #channel`: comes online (a person who is online reconnects: its quit was not logged)
//! - `=== nick [~user@host]  has left #channel […]`, `=== nick was kicked off #channel by …`: goes offline
//! - `=== old is now known as new`: the same person under another name
//! - any other `=== nick text`: an action (`/me …`)
//!
//! and everything else (modes, topics, net joins) is counted and skipped. A person who appears without having joined was there
//! from the start.

use std::collections::HashMap;

/// A person's place in [`Log::people`].
pub type PersonNo = usize;

/// The contents of a log.
#[derive(Debug, Default)]
pub struct Log {
    /// Everybody who appears, in the order of appearance.
    pub people: Vec<Person>,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// The number of lines of the file.
    pub lines: usize,
    /// The number of lines of no known form.
    pub skipped: usize,
}

/// One person with all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The first name.
    pub nick: String,
    /// True when the person is online when the log begins.
    pub starts_online: bool,
    /// True when the person says something.
    pub speaks: bool,
}

/// One step of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Minutes since the log began.
    pub minute: u32,
    /// The person.
    pub person: PersonNo,
    /// Its action.
    pub action: Action,
}

/// An action of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Comes online.
    Joins,
    /// Goes offline.
    Leaves,
    /// The person says this.
    Says(String),
    /// The person does this (`/me …`).
    Acts(String),
}

#[derive(Debug, PartialEq, Eq)]
enum LogLine<'a> {
    Said { clock: u32, nick: &'a str, text: &'a str },
    Joined(&'a str),
    Left(&'a str),
    Renamed { old: &'a str, new: &'a str },
    Acted { nick: &'a str, text: &'a str },
    Unknown,
}

impl Log {
    /// Reads a whole log. It never fails: lines of no known form are counted.
    pub fn parse(text: &str) -> Self {
        let lines: Vec<LogLine<'_>> = text.lines().map(LogLine::parse).collect();
        let mut names = Names::of(&lines);
        let mut log = Self { lines: lines.len(), ..Self::default() };
        let mut clock = Clock::default();
        for line in lines {
            let (nick, action) = match line {
                LogLine::Said { clock: shown, nick, text } => {
                    clock.show(shown);
                    (nick, Some(Action::Says(text.to_owned())))
                }
                LogLine::Acted { nick, text } => {
                    let (nick, text) = names.split_action(nick, text);
                    (nick, Some(Action::Acts(text.to_owned())))
                }
                LogLine::Joined(nick) => (nick, Some(Action::Joins)),
                LogLine::Left(nick) => (nick, Some(Action::Leaves)),
                LogLine::Renamed { old, .. } => (old, None),
                LogLine::Unknown => {
                    log.skipped += 1;
                    continue;
                }
            };
            let person = names.person(nick, &mut log.people, action == Some(Action::Joins));
            log.people[person].speaks |= matches!(action, Some(Action::Says(_) | Action::Acts(_)));
            log.steps.extend(action.map(|action| Step { minute: clock.minutes, person, action }));
        }
        log
    }

    /// The log without the persons who never say anything.
    pub fn speakers_only(mut self) -> Self {
        let mut place = 0;
        let new_places: Vec<Option<PersonNo>> = self
            .people
            .iter()
            .map(|person| {
                let new_place = person.speaks.then_some(place);
                place += usize::from(person.speaks);
                new_place
            })
            .collect();
        self.people.retain(|person| person.speaks);
        let steps = self.steps.into_iter();
        self.steps = steps.filter_map(|step| Some(Step { person: new_places[step.person]?, ..step })).collect();
        self
    }

    /// The time of each step, in seconds since the log began. The steps of a minute are spread over it.
    pub fn seconds(&self) -> Vec<f64> {
        let mut seconds = Vec::with_capacity(self.steps.len());
        for minute in self.steps.chunk_by(|a, b| a.minute == b.minute) {
            let spread = 60.0 / minute.len() as f64;
            seconds.extend(minute.iter().enumerate().map(|(place, step)| f64::from(step.minute) * 60.0 + place as f64 * spread));
        }
        seconds
    }
}

impl<'a> LogLine<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim_end_matches(['\r', ' ']);
        if let Some(notice) = line.strip_prefix("===") {
            return Self::notice(notice.trim_start());
        }
        Self::said(line).unwrap_or(Self::Unknown)
    }

    fn said(line: &'a str) -> Option<Self> {
        let (clock, rest) = line.strip_prefix('[')?.split_once(']')?;
        let (hours, minutes) = clock.split_once(':')?;
        let clock = hours.parse::<u32>().ok()? * 60 + minutes.parse::<u32>().ok()?;
        let (nick, text) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        (!nick.is_empty() && !text.trim().is_empty()).then_some(Self::Said { clock, nick, text })
    }

    fn notice(notice: &'a str) -> Self {
        if let Some(nick) = announced(notice, " has joined #") {
            return Self::Joined(nick);
        }
        if let Some(nick) = announced(notice, " has left #") {
            return Self::Left(nick);
        }
        if let Some((nick, _)) = notice.split_once(" was kicked off #")
            && is_nick(nick)
        {
            return Self::Left(nick);
        }
        if let Some((old, new)) = notice.split_once(" is now known as ")
            && is_nick(old)
            && is_nick(new)
        {
            return Self::Renamed { old, new };
        }
        match notice.split_once(' ') {
            Some((nick, text)) if is_nick(nick) && !text.trim().is_empty() => Self::Acted { nick, text: text.trim_start() },
            _ => Self::Unknown,
        }
    }
}

/// `nick [~user@host]  has …`: the nick, when the line has that form. (An action may hold the same words; it has no address.)
fn announced<'a>(notice: &'a str, words: &str) -> Option<&'a str> {
    let (who, _) = notice.split_once(words)?;
    let (nick, _) = who.trim_end().strip_suffix(']')?.split_once(" [")?;
    (!nick.is_empty()).then_some(nick)
}

/// One word of letters, digits and the signs IRC allows in names; so `mode/#ubuntu` and `netjoined:` are none.
fn is_nick(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_[]\\`^{}|".contains(c))
}

/// The names that belong to the same person.
struct Names<'a> {
    /// Name → the group of names it belongs to.
    groups: HashMap<String, usize>,
    /// Group → person, once the group has appeared.
    people: HashMap<usize, PersonNo>,
    /// Names with a space in them (some logs mangle brackets so); an action by one looks like an action by its first word.
    spaced: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// Reads all renames beforehand: a person who is `nick_` now and `nick` an hour later is one person throughout.
    fn of(lines: &[LogLine<'a>]) -> Self {
        let mut names = Self { groups: HashMap::new(), people: HashMap::new(), spaced: Vec::new() };
        for line in lines {
            match line {
                LogLine::Said { nick, .. } | LogLine::Joined(nick) | LogLine::Left(nick) if nick.contains(' ') => names.spaced.push(nick),
                LogLine::Renamed { old, new } => {
                    let (kept, gone) = (names.group(old), names.group(new));
                    names.groups.values_mut().filter(|group| **group == gone).for_each(|group| *group = kept);
                }
                _ => {}
            }
        }
        names
    }

    fn group(&mut self, nick: &str) -> usize {
        let new = self.groups.len();
        *self.groups.entry(nick.to_owned()).or_insert(new)
    }

    fn person(&mut self, nick: &str, people: &mut Vec<Person>, is_joining: bool) -> PersonNo {
        let group = self.group(nick);
        *self.people.entry(group).or_insert_with(|| {
            people.push(Person { nick: nick.to_owned(), starts_online: !is_joining, speaks: false });
            people.len() - 1
        })
    }

    fn split_action(&self, nick: &'a str, text: &'a str) -> (&'a str, &'a str) {
        let behind = |name: &'a str| text.strip_prefix(name.strip_prefix(nick)?.strip_prefix(' ')?)?.strip_prefix(' ');
        self.spaced.iter().find_map(|name| Some((*name, behind(name)?))).unwrap_or((nick, text))
    }
}

/// Twelve-hour clocks without a.m. and p.m.: only the steps forward count.
#[derive(Default)]
struct Clock {
    shown: Option<u32>,
    minutes: u32,
}

impl Clock {
    const HALF_DAY: u32 = 12 * 60;

    fn show(&mut self, shown: u32) {
        let before = self.shown.replace(shown).unwrap_or(shown);
        let step = (shown + 2 * Self::HALF_DAY - before) % Self::HALF_DAY;
        // More than half way round is a line that was logged late.
        if step < Self::HALF_DAY / 2 {
            self.minutes += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine<'_> {
        LogLine::parse(text)
    }

    #[test]
    fn message_line_keeps_its_text_as_it_is() {
        assert_eq!(
            line("[09:56] <cowbud> Agrajag:  hrmm > 2k4"),
            LogLine::Said { clock: 596, nick: "cowbud", text: "Agrajag:  hrmm > 2k4" }
        );
        assert_eq!(line("[12:00] <bur[n] er> nope"), LogLine::Said { clock: 720, nick: "bur[n] er", text: "nope" });
        assert_eq!(
            line("[09:58] <Scooter> <Agrajag> try ZNES 8)"),
            LogLine::Said { clock: 598, nick: "Scooter", text: "<Agrajag> try ZNES 8)" }
        );
    }

    #[test]
    fn joins_and_leaves_are_known_with_any_number_of_spaces() {
        assert_eq!(line("=== jx [n=jx@75-104-149-78.cust.wildblue.net]  has joined #ubuntu"), LogLine::Joined("jx"));
        assert_eq!(line("===  jx [n=jx@host] has joined #ubuntu"), LogLine::Joined("jx"));
        assert_eq!(line("=== sangria [n=jaime@core.fluendo.com]  has left #ubuntu [\"Leaving\"] "), LogLine::Left("sangria"));
        assert_eq!(line("=== [zero [~z@host]  has left #ubuntu []"), LogLine::Left("[zero"));
        assert_eq!(line("=== bur[n] er [~b@host]  has joined #ubuntu"), LogLine::Joined("bur[n] er"));
    }

    #[test]
    fn kicked_is_left() {
        assert_eq!(line("=== ompaul was kicked off #ubuntu by Seveas (Seveas)"), LogLine::Left("ompaul"));
    }

    #[test]
    fn rename_is_told_from_an_action_with_the_same_words() {
        assert_eq!(line("=== smo_ is now known as smo"), LogLine::Renamed { old: "smo_", new: "smo" });
        assert_eq!(line("=== smo is now known as the king"), LogLine::Acted { nick: "smo", text: "is now known as the king" });
        assert_eq!(line("=== smo says jx has joined #ubuntu"), LogLine::Acted { nick: "smo", text: "says jx has joined #ubuntu" });
    }

    #[test]
    fn what_the_network_says_is_no_action() {
        for text in [
            "=== mode/#ubuntu [+o apokryphos]  by ChanServ",
            "=== netjoined: irc.freenode.net -> kornbluth.freenode.net",
            "=== ..[topic/#ubuntu:Seveas] : Happy Dapper Day Everyone!",
            "=== nick",
            "===",
            "",
            "[09:56] <nick> ",
            "[x:y] <nick> text",
            "text",
        ] {
            assert_eq!(line(text), LogLine::Unknown, "{text}");
        }
    }

    #[test]
    fn person_keeps_one_identity_through_renames() {
        let log = Log::parse(
            "[01:00] <smo_> hi\n=== smo_ is now known as smo\n[01:01] <smo> still me\n=== smo waves\n=== smo_ [a@b]  has joined #c",
        );
        assert_eq!(log.people, [Person { nick: "smo_".into(), starts_online: true, speaks: true }]);
        assert_eq!(log.steps.iter().map(|step| step.person).collect::<Vec<_>>(), [0, 0, 0, 0]);
        assert_eq!(log.steps[2].action, Action::Acts("waves".into()));
    }

    #[test]
    fn action_by_a_name_with_a_space_belongs_to_that_name() {
        let log = Log::parse("[01:00] <bur[n] er> hi\n=== bur[n] er wonders why");
        assert_eq!(log.people.len(), 1);
        assert_eq!(log.steps[1].action, Action::Acts("wonders why".into()));
    }

    #[test]
    fn only_those_who_join_first_are_away_at_the_start() {
        let log = Log::parse("=== a [a@b]  has joined #c\n=== b [a@b]  has left #c []\n[01:00] <c> hi\n=== d is now known as e");
        let online: Vec<_> = log.people.iter().map(|person| (person.nick.as_str(), person.starts_online, person.speaks)).collect();
        assert_eq!(online, [("a", false, false), ("b", true, false), ("c", true, true), ("d", true, false)]);
    }

    #[test]
    fn lines_of_no_known_form_are_counted() {
        let log = Log::parse("[01:00] <a> hi\n=== mode/#c [+o a]  by b\nnoise\n");
        assert_eq!((log.lines, log.skipped, log.steps.len()), (3, 2, 1));
    }

    #[test]
    fn without_the_silent_ones_everybody_keeps_their_words() {
        let log = Log::parse("=== a [a@b]  has joined #c\n[01:00] <b> hi\n=== a [a@b]  has left #c []\n[01:00] <c> ho").speakers_only();
        assert_eq!(log.people.iter().map(|person| person.nick.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(log.steps.iter().map(|step| step.person).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn clock_goes_round_at_twelve_and_never_back() {
        let log = Log::parse("[12:59] <a> 1\n[01:00] <a> 2\n[12:58] <a> 3\n[01:00] <a> 4\n[01:00] <a> 5");
        assert_eq!(log.steps.iter().map(|step| step.minute).collect::<Vec<_>>(), [0, 1, 1, 3, 3]);
        assert_eq!(log.seconds()[3..], [180.0, 210.0]);
    }
}
