//! Dates, subjects and roles of a certificate chain. The dates are needed in every https check:
//! they are read straight from the DER (RFC 5280 §4.1), without allocation; subjects only for
//! evidence.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When a chain is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    fn narrowed(self, by: Self) -> Self {
        Self {
            not_before: self.not_before.max(by.not_before),
            not_after: self.not_after.min(by.not_after),
        }
    }
}

/// The latest `notBefore` and the earliest `notAfter` of `chain`; `None` when no date can be
/// read. A certificate outside its dates at `verified_at` is left out: since the chain was found
/// good at that time, it is not on the path that was used (an old cross-sign, say).
pub(super) fn validity(chain: &[CertificateDer<'_>], verified_at: Option<i64>) -> Option<Validity> {
    chain
        .iter()
        .filter_map(|certificate| validity_of(certificate))
        .filter(|one| verified_at.is_none_or(|at| (one.not_before..=one.not_after).contains(&at)))
        .reduce(Validity::narrowed)
}

/// The dates that hold for every certificate of `chain`; `None` when those of one cannot be read.
pub(super) fn validity_of_all<'a>(
    chain: impl Iterator<Item = &'a CertificateDer<'a>>,
) -> Option<Validity> {
    let mut all: Option<Validity> = None;
    for certificate in chain {
        let one = validity_of(certificate)?;
        all = Some(all.map_or(one, |all| all.narrowed(one)));
    }
    all
}

/// Days since the Unix epoch of `not_after`, in the 16 bits of an outcome; never 0.
pub(super) fn days(not_after: i64) -> u16 {
    not_after.div_euclid(86_400).clamp(1, i64::from(u16::MAX)) as u16
}

/// Subjects of `chain`, leaf first.
pub(super) fn subjects(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let subject = |der: &CertificateDer<'_>| match X509Certificate::from_der(der) {
        Ok((_, certificate)) => certificate.subject().to_string(),
        Err(_) => "(does not parse)".to_owned(),
    };
    chain.iter().map(subject).collect()
}

/// Whether `tbs`, the signed part of a certificate, says that it is an authority's (RFC 5280
/// §4.2.1.9).
pub(super) fn is_authority(tbs: &[u8]) -> bool {
    let constraints = basic_constraints(tbs);
    constraints.is_some_and(|first| matches!(any_element(first), Some((BOOLEAN, [0xff], _))))
}

/// Contents of the extension of that name.
fn basic_constraints(tbs: &[u8]) -> Option<&[u8]> {
    let (mut fields, _) = element(tbs, SEQUENCE)?;
    let mut extensions = loop {
        let (tag, content, rest) = any_element(fields)?;
        if tag == EXTENSIONS {
            break element(content, SEQUENCE)?.0;
        }
        fields = rest;
    };
    loop {
        let (extension, rest) = element(extensions, SEQUENCE)?;
        let Some(value) = extension.strip_prefix(&BASIC_CONSTRAINTS) else {
            extensions = rest;
            continue;
        };
        let value = match any_element(value)? {
            (BOOLEAN, _critical, rest) => rest,
            _ => value,
        };
        let (octets, _) = element(value, OCTET_STRING)?;
        return element(octets, SEQUENCE).map(|(content, _)| content);
    }
}

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const EXTENSIONS: u8 = 0xa3;
/// The object identifier 2.5.29.19.
const BASIC_CONSTRAINTS: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version?, serial, signature, issuer, validity …
fn validity_of(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (tbs, _) = element(certificate, SEQUENCE)?;
    let (first_tag, _, after_first) = any_element(tbs)?;
    let serial = if first_tag == VERSION {
        after_first
    } else {
        tbs
    };
    let (_, _, signature) = any_element(serial)?;
    let (_, issuer) = element(signature, SEQUENCE)?;
    let (_, validity) = element(issuer, SEQUENCE)?;
    let (dates, _) = element(validity, SEQUENCE)?;
    let (not_before, rest) = time(dates)?;
    let (not_after, _) = time(rest)?;
    Some(Validity {
        not_before,
        not_after,
    })
}

/// Contents of the first element, which must be tagged `tag`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag and contents of the first element, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (
            digits
                .iter()
                .fold(0, |sum, &digit| sum << 8 | usize::from(digit)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Seconds since the Unix epoch of a Time (RFC 5280 §4.1.2.5), and what follows it.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = any_element(der)?;
    let digits = content.strip_suffix(b"Z")?;
    let two = |at: usize| -> Option<i64> {
        let pair = digits.get(at..at + 2)?;
        let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
        Some(digit(pair[0])? * 10 + digit(pair[1])?)
    };
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (
            if two(0)? < 50 {
                2000 + two(0)?
            } else {
                1900 + two(0)?
            },
            2,
        ),
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let days = days_from_civil(year, two(at)?, two(at + 2)?);
    let seconds = two(at + 4)? * 3_600 + two(at + 6)? * 60 + two(at + 8)?;
    Some((days * 86_400 + seconds, rest))
}

/// The date of an instant in seconds since the Unix epoch, as people write it: `2026-01-31`.
pub(super) fn date(at: i64) -> String {
    // The way back of `days_from_civil`, by eras of 400 years of 146,097 days.
    let days = at.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day = of_era - (365 * of_year + of_year / 4 - of_year / 100);
    let month = (5 * day + 2) / 153;
    let (year, day) = (of_year + era * 400, day - (153 * month + 2) / 5 + 1);
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that start in
/// March, so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["e.test".to_owned()]).expect("name");
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "e.test");
        let key = rcgen::KeyPair::generate().expect("key");
        params.self_signed(&key).expect("certificate").der().clone()
    }

    #[test]
    fn dates_are_read_in_both_forms() {
        for (from, to, not_before, not_after) in [
            ((1970, 1, 1), (2000, 2, 29), 0, 951_782_400),
            ((2024, 12, 31), (2026, 3, 1), 1_735_603_200, 1_772_323_200),
            ((1999, 12, 31), (2400, 2, 29), 946_598_400, 13_574_563_200),
        ] {
            let chain = [certificate(from, to)];
            let read = validity(&chain, None);
            assert_eq!(
                read,
                Some(Validity {
                    not_before,
                    not_after
                }),
                "{to:?}"
            );
            let (_, theirs) = X509Certificate::from_der(&chain[0]).expect("parses");
            assert_eq!(theirs.validity().not_after.timestamp(), not_after);
        }
    }

    #[test]
    fn the_shortest_certificate_counts_unless_it_was_of_no_use() {
        let leaf = certificate((2025, 1, 1), (2027, 1, 1));
        let old = certificate((2010, 1, 1), (2021, 9, 30));
        let both = [leaf.clone(), old];
        let all = validity(&both, None).expect("dates");
        assert_eq!(all.not_after / 86_400, days_from_civil(2021, 9, 30));
        let used = validity(&both, Some(1_767_225_600)).expect("dates");
        assert_eq!(used.not_after / 86_400, days_from_civil(2027, 1, 1));
        assert_eq!(subjects(&[leaf]), ["CN=e.test"]);
    }

    #[test]
    fn a_date_is_read_back_as_it_was_written() {
        for (date, (year, month, day)) in [
            ("1970-01-01", (1970, 1, 1)),
            ("2000-02-29", (2000, 2, 29)),
            ("2025-12-31", (2025, 12, 31)),
            ("2100-03-01", (2100, 3, 1)),
        ] {
            let last_second = days_from_civil(year, month, day) * 86_400 + 86_399;
            assert_eq!(super::date(last_second), date);
        }
    }

    #[test]
    fn the_dates_of_all_are_those_of_none_when_one_cannot_be_read() {
        let leaf = certificate((2025, 1, 1), (2027, 1, 1));
        let old = certificate((2010, 1, 1), (2021, 9, 30));
        let all = validity_of_all([&leaf, &old].into_iter()).expect("dates");
        assert_eq!(date(all.not_after), "2021-09-30");
        assert_eq!(date(all.not_before), "2025-01-01");
        let junk = CertificateDer::from(vec![0x30, 0]);
        assert_eq!(validity_of_all([&leaf, &junk].into_iter()), None);
        assert_eq!(validity_of_all(std::iter::empty()), None);
    }

    #[test]
    fn an_authority_is_known_by_its_constraints_alone() {
        use rcgen::{BasicConstraints, IsCa};
        let key = rcgen::KeyPair::generate().expect("key");
        let tbs_of = |is_ca: IsCa| {
            let mut params =
                rcgen::CertificateParams::new(vec!["e.test".to_owned()]).expect("name");
            params.is_ca = is_ca;
            let certificate = params.self_signed(&key).expect("certificate");
            let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("parses");
            parsed.tbs_certificate.as_ref().to_vec()
        };
        let authority = tbs_of(IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(is_authority(&authority));
        assert!(is_authority(&tbs_of(IsCa::Ca(
            BasicConstraints::Constrained(3)
        ))));
        assert!(!is_authority(&tbs_of(IsCa::ExplicitNoCa)), "it says no");
        assert!(!is_authority(&tbs_of(IsCa::NoCa)), "it says nothing");
        for len in 0..authority.len() {
            assert!(!is_authority(&authority[..len]));
        }
    }

    #[test]
    fn no_cut_of_a_certificate_is_read_or_panics() {
        let whole = certificate((2025, 1, 1), (2027, 1, 1));
        for len in 0..whole.len() {
            assert_eq!(validity_of(&whole[..len]), None);
        }
        assert_eq!(
            (days(-5), days(i64::MAX), days(86_400 * 3)),
            (1, u16::MAX, 3)
        );
    }
}
