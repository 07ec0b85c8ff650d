package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DICOMweb is about an archive in the place of a folder of studies.
type DICOMweb struct {
	Username    string        `mapstructure:"username"`
	Password    Secret        `mapstructure:"password"`
	Token       Secret        `mapstructure:"token"`
	TokenFile   string        `mapstructure:"token_file"`
	QIDOPrefix  string        `mapstructure:"qido_prefix"`
	WADOPrefix  string        `mapstructure:"wado_prefix"`
	STOWPrefix  string        `mapstructure:"stow_prefix"`
	Search      []string      `mapstructure:"search"`
	Refresh     time.Duration `mapstructure:"refresh"`
	Timeout     time.Duration `mapstructure:"timeout"`
	ReadTimeout time.Duration `mapstructure:"read_timeout"`
	Retries     int           `mapstructure:"retries"`
	CacheDir    string        `mapstructure:"cache_dir"`
	CacheBytes  Size          `mapstructure:"cache_bytes"`
	CacheExpiry time.Duration `mapstructure:"cache_expiry"`
	MaxSeries   Size          `mapstructure:"max_series"`
}

func defaultDICOMweb() DICOMweb {
	return DICOMweb{
		Search: []string{"Modality=CT", "Modality=MR"}, Refresh: 30 * time.Second, Timeout: 30 * time.Second, ReadTimeout: 30 * time.Second, Retries: 3,
		CacheBytes: 20 << 30, CacheExpiry: 7 * 24 * time.Hour, MaxSeries: 8 << 30,
	}
}

// FromArchive reports whether the studies are those of an archive and not of a folder.
func (c *Config) FromArchive() bool { return strings.Contains(c.Studies, "://") }

// CacheDir is where series of an archive are kept for a while: dicomweb.cache_dir, or the folder cache in StateDir.
func (c *Config) CacheDir() string { return orIn(c.DICOMweb.CacheDir, c.StateDir(), "cache") }

// Filters are the searches by which an archive's images are listed.
func (d *DICOMweb) Filters() ([]url.Values, error) {
	var filters []url.Values
	for _, text := range d.Search {
		filter, err := parseFilter(text)
		if err != nil {
			return nil, err
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

// parseFilter reads Modality=CT&BodyPartExamined=LIVER, or a JSON object of such pairs as MONAI Label takes it.
func parseFilter(text string) (url.Values, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		filter, err := url.ParseQuery(text)
		for name, values := range filter {
			if name == "" || len(values) != 1 || values[0] == "" || name == "limit" || name == "offset" {
				return nil, fmt.Errorf("filter %q, want one such as Modality=CT", text)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("filter %q, want one such as Modality=CT: %w", text, err)
		}
		return filter, nil
	}
	var pairs map[string]any
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, fmt.Errorf(`filter %q, want one such as {"Modality": "CT"}: %w`, text, err)
	}
	filter := url.Values{}
	for name, value := range pairs {
		filter.Set(name, fmt.Sprint(value))
	}
	return filter, nil
}

// archiveStateDir is where the state of an archive's server goes by default: a folder of the user's for each archive.
func archiveStateDir(archive string) string {
	home := os.Getenv("XDG_STATE_HOME")
	if home == "" {
		if user, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(user, ".local", "state")
		}
	}
	_, name, _ := strings.Cut(strings.TrimRight(archive, "/"), "://")
	plain := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || r == '.' {
			return r
		}
		return '-'
	}, name)
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(home, "scrawl", strings.TrimLeft(plain, ".")+"-"+hex.EncodeToString(sum[:4]))
}

func validStudies(studies string) bool {
	if studies == "" || !strings.Contains(studies, "://") {
		return studies != ""
	}
	u, err := url.Parse(studies)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// withoutPassword is an address as it may be shown.
func withoutPassword(address string) string {
	if u, err := url.Parse(address); err == nil && u.User != nil {
		return u.Redacted()
	}
	return address
}

func validFilters(d DICOMweb) bool {
	filters, err := d.Filters()
	return err == nil && len(filters) > 0
}
