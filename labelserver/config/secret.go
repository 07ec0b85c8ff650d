package config

// Secret is a password or key. It prints as stars, so that no log and no listing of the configuration shows it; Reveal gives it
// to what needs it.
type Secret string

const redacted = "********"

// String hides the secret, but not whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }
