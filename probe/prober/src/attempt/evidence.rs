//! Evidence of an attempt: built only when somebody wants it, out of what the attempt holds
//! anyway. It owns the sentences for people.

use model::evidence::DnsSeen;
use model::limits::EVIDENCE_HEAD_MAX_BYTES;
use model::outcome::{PHASE_ABSENT, flags};
use model::url::Scheme;
use model::{Evidence, FailureClass, Generation, Slot};

use super::Attempt;
use super::errno::is_reset;
use super::route::Route;

impl Attempt {
    /// What the attempt saw, for the outcome (slot, generation, seq), cut to its limits. Costs
    /// allocations: asked for by failing checks and one-shots only.
    pub fn evidence(&self, slot: Slot, generation: Generation, seq: u32) -> Evidence {
        let report = self.report();
        let kept = &self.buffers.carry[..self.buffers.carry.len().min(EVIDENCE_HEAD_MAX_BYTES)];
        let handshaken = report.phases.tls_us != PHASE_ABSENT;
        let evidence = Evidence {
            class: report.class.map_or(0, |class| class as u8),
            errno: report.errno,
            status: report.status,
            addresses: self
                .routes()
                .flat_map(|route| route.tried(self.hop.port))
                .collect(),
            dns: self.dns_seen(),
            tls: self
                .tls
                .as_ref()
                .filter(|_| handshaken)
                .and_then(|link| link.seen()),
            redirects: self
                .journey
                .as_ref()
                .map_or_else(Vec::new, |journey| journey.hops().to_vec()),
            head: String::from_utf8_lossy(kept).into_owned(),
            excerpt: self.excerpt(report.class),
            text: self.sentence(report.class),
            ..Evidence::of(slot, generation, seq)
        };
        evidence.bounded()
    }

    fn dns_seen(&self) -> Option<DnsSeen> {
        let addresses = self.routes().flat_map(Route::all).copied();
        self.hop.dns.seen(addresses)
    }

    /// Of a body that broke a rule.
    fn excerpt(&self, class: Option<FailureClass>) -> String {
        let broke_rule = matches!(
            class,
            Some(FailureClass::BodyKeywordMissing | FailureClass::BodyForbidden)
        );
        let search = self.hop.search.as_ref().filter(|_| broke_rule);
        search.map_or_else(String::new, |search| {
            String::from_utf8_lossy(search.excerpt()).into_owned()
        })
    }

    /// Which forbidden text was found.
    fn forbidden(&self) -> String {
        let search = self.hop.search.as_ref().zip(self.body_rules());
        let text = search.and_then(|(search, rules)| search.forbidden(rules));
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// The Content-Encoding that is strange to us, as far as it is in what was kept of the head.
    fn strange_coding(&self) -> Option<String> {
        let (start, end) = self.hop.search.as_ref()?.strange_field()?;
        let head = &self.buffers.carry;
        let end = (end as usize).min(head.len());
        let value = head.get(start as usize..end).unwrap_or(b"(not kept)");
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// What happened, to what, and under which rule.
    fn sentence(&self, class: Option<FailureClass>) -> String {
        let text = self.text(class);
        let is_of = |kind| class.is_some_and(|class| class.as_str().starts_with(kind));
        let each = "with `ip = both` each of IPv4 and IPv6 must work".to_owned();
        let each = (is_of("connect.") && self.hop.each).then_some(each);
        let left_out = self.hop.dns.left_out().filter(|_| is_of("connect."));
        let session = self.session_note().filter(|_| is_of("tls."));
        let other = self.hop.dns.other_family(self.hop.route.is_ipv4());
        let other = other.filter(|_| is_of("dns.") && !self.hop.route.is_empty());
        let reuse = self.reuse_note().map(str::to_owned);
        let reuse = reuse.filter(|_| ["connect.", "http."].into_iter().any(is_of));
        let notes = [each, left_out, session, other, reuse]
            .into_iter()
            .flatten();
        notes.fold(text, |text, note| format!("{text}; {note}"))
    }

    /// That a handshake was the second one, or could have been.
    fn session_note(&self) -> Option<String> {
        let link = self.tls.as_ref()?;
        let note = match link.refused_session() {
            Some(_) => {
                "a TLS session of an earlier check was offered, and a second connection for a full \
                 handshake did not come about"
            }
            None if self.flags & flags::TLS_SESSION_REFUSED != 0 => {
                "it was the second handshake: one with the TLS session of an earlier check had \
                 failed before"
            }
            None => return None,
        };
        Some(note.to_owned())
    }

    /// One sentence: what happened, to what.
    fn text(&self, class: Option<FailureClass>) -> String {
        let Some(class) = class else {
            return String::new();
        };
        // Where there is an address, that is what this host cannot connect to.
        let is_of_dns = class != FailureClass::ConnectLocal || self.hop.route.is_empty();
        let of_dns = is_of_dns.then(|| self.hop.dns.sentence(class, self.many));
        if let Some(sentence) = of_dns.flatten() {
            return sentence;
        }
        let place = self.route().address().map_or_else(
            || "the host".to_owned(),
            |address| std::net::SocketAddr::new(address, self.hop.port).to_string(),
        );
        let errno = self
            .errno
            .map_or_else(String::new, |errno| format!(" (errno {errno})"));
        let asks = self.hop.scheme == Scheme::Dns;
        match class {
            FailureClass::DnsNxdomain => "the name does not exist".to_owned(),
            FailureClass::DnsNoAddress => match self.question() {
                Some(kind) => format!("the name has no {kind} record"),
                None => "the name has no address".to_owned(),
            },
            FailureClass::ConnectRefused => format!("{place} refused the connection{errno}"),
            FailureClass::ConnectReset => format!("{place} reset the connection attempt{errno}"),
            FailureClass::ConnectUnreachable => format!("{place} cannot be reached{errno}"),
            FailureClass::ConnectTimeout => format!("{place} did not accept a connection in time"),
            FailureClass::ConnectLocal => format!("this host cannot connect to {place}{errno}"),
            FailureClass::TlsTimeout => format!("{place} did not finish the TLS handshake in time"),
            FailureClass::HttpStatus => format!("{place} answered with status {}", self.status),
            FailureClass::HttpTimeout => format!("{place} did not finish its answer in time"),
            FailureClass::HttpReset if self.errno.is_none_or(is_reset) => {
                format!("{place} reset the connection{errno}")
            }
            FailureClass::HttpReset => format!("the connection to {place} broke{errno}"),
            FailureClass::Latency if asks => {
                "the DNS answer came more slowly than max_latency_ms".to_owned()
            }
            FailureClass::Latency => format!("{place} answered more slowly than max_latency_ms"),
            FailureClass::BodyKeywordMissing | FailureClass::BodyForbidden if asks => {
                self.wrong_answer()
            }
            FailureClass::BodyKeywordMissing if self.hop.scheme == Scheme::Tcp => {
                format!("{place} did not say the expected text in its first KiB")
            }
            FailureClass::BodyKeywordMissing => {
                format!("the body that {place} sent does not have the keyword")
            }
            FailureClass::BodyForbidden => {
                let text = self.forbidden();
                format!("the body that {place} sent has the forbidden text {text:?}")
            }
            FailureClass::HttpBadEncoding => self.bad_encoding(&place),
            FailureClass::RedirectLimit
            | FailureClass::RedirectLoop
            | FailureClass::RedirectRefused
            | FailureClass::RedirectBadLocation => {
                let journey = self.journey.as_ref();
                let location = journey.map_or("", |journey| journey.not_followed());
                format!("{place}: {}: Location: {location}", self.detail(class))
            }
            FailureClass::SafetyBlocked => self.blocked(&place),
            FailureClass::LocalPressure => self.pressure(),
            FailureClass::LocalCancelled => "the check was cancelled".to_owned(),
            _ => format!("{place}: {}{errno}", self.detail(class)),
        }
    }

    /// What the guard forbids: a name, or the address that it has.
    fn blocked(&self, place: &str) -> String {
        match self.why {
            "" => format!("{place} is not a public address; add its block to `allow` to check it"),
            label => format!(
                "names that end in .{label} are of private networks; add .{label} to `allow` to \
                 ask your own resolver for them"
            ),
        }
    }

    /// What is wrong with the coding of the body, or which one is strange to us.
    fn bad_encoding(&self, place: &str) -> String {
        match self.strange_coding() {
            Some(coding) => {
                format!("we cannot look into the body that {place} sent: its coding is {coding:?}")
            }
            None => format!("{place}: {}", self.detail(FailureClass::HttpBadEncoding)),
        }
    }

    /// What this node lacked to judge.
    fn pressure(&self) -> String {
        let fault = self.fault();
        let lacked = first_said([self.why, self.coding_flaw(), &fault]);
        let lacked = lacked.unwrap_or("too many names wait to be resolved");
        format!("this node was too busy to judge: {lacked}; nothing is known of the site")
    }

    /// What TLS, the machine or a decoder say of it; else the class.
    fn detail(&self, class: FailureClass) -> String {
        let fault = self.fault();
        let said = first_said([&fault, self.why, self.coding_flaw()]);
        said.unwrap_or(class.as_str()).to_owned()
    }

    fn fault(&self) -> String {
        let fault = self.tls.as_ref().and_then(|link| link.fault_text());
        fault.unwrap_or_default()
    }

    fn coding_flaw(&self) -> &'static str {
        self.hop.search.as_ref().map_or("", |search| search.why())
    }
}

fn first_said(words: [&str; 3]) -> Option<&str> {
    words.into_iter().find(|words| !words.is_empty())
}
