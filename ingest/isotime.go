package ingest

import (
	"time"

	"sojourn/domain"
)

// parseTime reads an ISO 8601 date and time and cuts it to the millisecond. It
// takes what the SDKs send and its near relatives: the extended format with T,
// t or a space between date and time; seconds that may be missing; any number
// of decimals behind a point or comma; Z, z, ±hh:mm, ±hhmm or ±hh, and where
// there is no zone, UTC; a date alone, which means its first instant; 24:00 as
// the end of a day; and the basic format (20060102T150405Z). Numbers are not
// times: nothing says whether they count seconds or milliseconds.
func parseTime(s string) (domain.Millis, bool) {
	// The form nearly every SDK sends, without branches for the others.
	if len(s) == 24 && s[10] == 'T' && s[19] == '.' && s[23] == 'Z' && s[4] == '-' && s[7] == '-' && s[13] == ':' && s[16] == ':' {
		ms, ok := number(s[20:23])
		if !ok {
			return 0, false
		}
		t, ok := instant(s[0:4], s[5:7], s[8:10], s[11:13], s[14:16], s[17:19])
		return t + domain.Millis(ms), ok
	}
	return parseTimeSlow(s)
}

func parseTimeSlow(s string) (domain.Millis, bool) {
	if len(s) > 64 || len(s) < 8 {
		return 0, false
	}
	var year, month, day string
	if s[4] == '-' {
		if len(s) < 10 || s[7] != '-' {
			return 0, false
		}
		year, month, day, s = s[:4], s[5:7], s[8:10], s[10:]
	} else {
		year, month, day, s = s[:4], s[4:6], s[6:8], s[8:]
	}
	if s == "" {
		return instant(year, month, day, "00", "00", "00")
	}
	if c := s[0]; c != 'T' && c != 't' && c != ' ' {
		return 0, false
	}
	s = s[1:]
	if len(s) < 4 {
		return 0, false
	}
	hour, minute, second := s[:2], "", "00"
	if s[2] == ':' {
		if len(s) < 5 {
			return 0, false
		}
		minute, s = s[3:5], s[5:]
		if s != "" && s[0] == ':' {
			if len(s) < 3 {
				return 0, false
			}
			second, s = s[1:3], s[3:]
		}
	} else {
		minute, s = s[2:4], s[4:]
		if len(s) >= 2 && isDigit(s[0]) {
			second, s = s[:2], s[2:]
		}
	}
	ms := 0
	if s != "" && (s[0] == '.' || s[0] == ',') {
		i, scale := 1, 100
		for ; i < len(s) && isDigit(s[i]); i++ {
			ms += int(s[i]-'0') * scale
			scale /= 10
		}
		if i == 1 {
			return 0, false
		}
		s = s[i:]
	}
	offset, ok := zone(s)
	if !ok {
		return 0, false
	}
	var t domain.Millis
	if hour == "24" {
		if minute != "00" || second != "00" || ms != 0 {
			return 0, false
		}
		t, ok = instant(year, month, day, "00", "00", "00")
		t += domain.Day
	} else {
		t, ok = instant(year, month, day, hour, minute, second)
	}
	return t + domain.Millis(ms) - offset, ok
}

// zone reads what stands behind the time of day.
func zone(s string) (offset domain.Millis, ok bool) {
	if s == "" || s == "Z" || s == "z" {
		return 0, true
	}
	if s[0] == ' ' { // "2006-01-02 15:04:05 +0000", as Ruby prints a time
		s = s[1:]
		if s == "UTC" {
			return 0, true
		}
	}
	if s == "" || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	sign := domain.Millis(1)
	if s[0] == '-' {
		sign = -1
	}
	s = s[1:]
	minute := "00"
	switch {
	case len(s) == 2:
	case len(s) == 4:
		minute = s[2:]
	case len(s) == 5 && s[2] == ':':
		minute = s[3:]
	default:
		return 0, false
	}
	h, ok1 := number(s[:2])
	m, ok2 := number(minute)
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, false
	}
	return sign * domain.Millis(h*60+m) * 60_000, true
}

func instant(year, month, day, hour, minute, second string) (domain.Millis, bool) {
	y, ok1 := number(year)
	mo, ok2 := number(month)
	d, ok3 := number(day)
	h, ok4 := number(hour)
	mi, ok5 := number(minute)
	s, ok6 := number(second)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 ||
		mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h > 23 || mi > 59 || s > 59 {
		return 0, false
	}
	return domain.Millis(time.Date(y, time.Month(mo), d, h, mi, s, 0, time.UTC).UnixMilli()), true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

func number(s string) (int, bool) {
	n := 0
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func isDigit(c byte) bool { return c-'0' <= 9 }
