// Package config holds the server's configuration as one typed value. It comes, in rising order of precedence, from defaults, a
// YAML file, the environment variables of MONAI Label that still mean something here, Scrawl's own variables (SCRAWL_SERVER_PORT
// for server.port, and so on for every key) and the command line. A key nobody knows is refused with the nearest one that
// exists, since a misspelt limit is worse than none.
package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is the configuration of a labelling server. Default gives the values that hold when nothing is set.
type Config struct {
	Server    Server    `mapstructure:"server"`
	Studies   string    `mapstructure:"studies"`
	App       string    `mapstructure:"app"`
	Models    []string  `mapstructure:"models"`
	Runtime   Runtime   `mapstructure:"runtime"`
	Engine    Engine    `mapstructure:"engine"`
	Auth      Auth      `mapstructure:"auth"`
	Tasks     Tasks     `mapstructure:"tasks"`
	Sessions  Sessions  `mapstructure:"sessions"`
	Datastore Datastore `mapstructure:"datastore"`
	DICOMweb  DICOMweb  `mapstructure:"dicomweb"`
	Log       Log       `mapstructure:"log"`
	State     State     `mapstructure:"state"`
}

// Server is about listening and what clients may send.
type Server struct {
	Name            string        `mapstructure:"name"`
	Host            string        `mapstructure:"host"`
	Port            int           `mapstructure:"port"`
	CORSOrigins     []string      `mapstructure:"cors_origins"`
	APIPrefix       string        `mapstructure:"api_prefix"`
	OHIF            string        `mapstructure:"ohif"`
	MaxUpload       Size          `mapstructure:"max_upload"`
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	TLS             TLS           `mapstructure:"tls"`
}

// TLS is about encrypted connections; without a certificate the server speaks plain HTTP.
type TLS struct {
	CertFile    string `mapstructure:"cert_file"`
	KeyFile     string `mapstructure:"key_file"`
	KeyPassword Secret `mapstructure:"key_password"`
	ClientCA    string `mapstructure:"client_ca"`
}

// Auth is about who may use the server. See package auth for what the fields mean.
type Auth struct {
	Enable         bool          `mapstructure:"enable"`
	AllowAnonymous bool          `mapstructure:"allow_anonymous"`
	Accounts       string        `mapstructure:"accounts"`
	RealmURI       string        `mapstructure:"realm_uri"`
	ClientID       string        `mapstructure:"client_id"`
	ClientSecret   Secret        `mapstructure:"client_secret"`
	Audience       string        `mapstructure:"audience"`
	Timeout        time.Duration `mapstructure:"timeout"`
	TokenLifetime  time.Duration `mapstructure:"token_lifetime"`
	ImageGrant     time.Duration `mapstructure:"image_grant"`
	Claims         Claims        `mapstructure:"claims"`
	Roles          Roles         `mapstructure:"roles"`
}

// Claims are the members of a realm's tokens that tell who somebody is. A # leads into a nested object.
type Claims struct {
	Username string `mapstructure:"username"`
	Email    string `mapstructure:"email"`
	Name     string `mapstructure:"name"`
	Roles    string `mapstructure:"roles"`
}

// Roles are the names of the four roles in tokens and in the file of accounts.
type Roles struct {
	User      string `mapstructure:"user"`
	Annotator string `mapstructure:"annotator"`
	Reviewer  string `mapstructure:"reviewer"`
	Admin     string `mapstructure:"admin"`
}

// Tasks switches groups of routes off, as a site may want that serves one purpose.
type Tasks struct {
	Train      bool `mapstructure:"train"`
	Strategy   bool `mapstructure:"strategy"`
	Scoring    bool `mapstructure:"scoring"`
	BatchInfer bool `mapstructure:"batch_infer"`
	// AutoScoring lets all scores be computed anew at the start, when a label is submitted and after a training.
	AutoScoring bool `mapstructure:"auto_scoring"`
}

// Runtime is about ONNX Runtime and the device it runs on.
type Runtime struct {
	Library string `mapstructure:"library"`
	Device  string `mapstructure:"device"`
	Threads int    `mapstructure:"threads"`
	// Measure has the forms of gradients measured while the server runs: see lower.Compiler.Measure.
	Measure bool `mapstructure:"measure"`
	// TF32, Half and GPUMemory are for CUDA alone.
	TF32      bool `mapstructure:"tf32"`
	Half      bool `mapstructure:"half"`
	GPUMemory Size `mapstructure:"gpu_memory"`
}

// Engine is about interactions: how to learn, how long, how much.
type Engine struct {
	Profile      string        `mapstructure:"profile"`
	Memory       Size          `mapstructure:"memory"`
	InferTimeout time.Duration `mapstructure:"infer_timeout"`
	Queue        int           `mapstructure:"queue"`
}

// Sessions is about images uploaded for a while.
type Sessions struct {
	Enable   bool          `mapstructure:"enable"`
	Path     string        `mapstructure:"path"`
	Expiry   time.Duration `mapstructure:"expiry"`
	MaxCount int           `mapstructure:"max_count"`
	MaxBytes Size          `mapstructure:"max_bytes"`
}

// Datastore is about the folder of studies.
type Datastore struct {
	FileExt    []string `mapstructure:"file_ext"`
	AutoReload bool     `mapstructure:"auto_reload"`
	ReadOnly   bool     `mapstructure:"read_only"`
}

// Log is about what is written down.
type Log struct {
	Level    string `mapstructure:"level"`
	Format   string `mapstructure:"format"`
	File     string `mapstructure:"file"`
	MaxBytes Size   `mapstructure:"max_bytes"`
	// Audit is the file of the audit trail.
	Audit string `mapstructure:"audit"`
}

// State is about what has been learned.
type State struct {
	Dir            string `mapstructure:"dir"`
	SnapshotBudget Size   `mapstructure:"snapshot_budget"`
}

// Default is the configuration without any setting. configs/default.yaml says the same with comments.
func Default() *Config {
	return &Config{
		Server: Server{
			Name: "Scrawl", Host: "127.0.0.1", Port: 8000, CORSOrigins: []string{LoopbackOrigins},
			MaxUpload: 4 << 30, ShutdownTimeout: 30 * time.Second,
		},
		Studies: "studies",
		App:     "scribbles",
		Models:  []string{},
		Runtime: Runtime{Device: "cpu", Measure: true},
		Engine:  Engine{Profile: "default", Memory: 4 << 30, InferTimeout: 10 * time.Minute, Queue: 16},
		Auth: Auth{
			ClientID: "monailabel-app", Timeout: 10 * time.Second, TokenLifetime: 12 * time.Hour,
			Claims: Claims{Username: "preferred_username", Email: "email", Name: "name", Roles: "realm_access#roles"},
			Roles:  Roles{User: "monailabel-user", Annotator: "monailabel-annotator", Reviewer: "monailabel-reviewer", Admin: "monailabel-admin"},
		},
		Tasks:     Tasks{Train: true, Strategy: true, Scoring: true, BatchInfer: true},
		Sessions:  Sessions{Enable: true, Expiry: time.Hour, MaxCount: 200, MaxBytes: 20 << 30},
		Datastore: Datastore{FileExt: []string{"*.nii.gz", "*.nii", "*.nrrd", "*.jpg", "*.png", "*.tif", "*.svs", "*.xml"}, AutoReload: true},
		DICOMweb:  defaultDICOMweb(),
		Log:       Log{Level: "info", Format: "console", MaxBytes: 16 << 20},
		State:     State{SnapshotBudget: 2 << 30},
	}
}

// StateDir is where learned state, sessions and logs go: state.dir, or the folder .scrawl among the studies, or for an archive a folder
// of its own in ~/.local/state/scrawl.
func (c *Config) StateDir() string {
	if c.FromArchive() && c.State.Dir == "" {
		return archiveStateDir(c.Studies)
	}
	return orIn(c.State.Dir, c.Studies, ".scrawl")
}

// VersionDir is where the versions of networks are kept, and LineageDir what annotators have taught them: folders of StateDir.
func (c *Config) VersionDir() string { return filepath.Join(c.StateDir(), "networks") }

// LineageDir is described with VersionDir.
func (c *Config) LineageDir() string { return filepath.Join(c.StateDir(), "lineages") }

// SessionDir is where uploaded sessions go: sessions.path, or the folder sessions in StateDir.
func (c *Config) SessionDir() string { return orIn(c.Sessions.Path, c.StateDir(), "sessions") }

// LogFile is where the log goes: log.file, or logs/app.log in StateDir.
func (c *Config) LogFile() string { return orIn(c.Log.File, c.StateDir(), "logs", "app.log") }

// AuditFile is where the audit trail goes: log.audit, or logs/audit.jsonl in StateDir.
func (c *Config) AuditFile() string { return orIn(c.Log.Audit, c.StateDir(), "logs", "audit.jsonl") }

// KeyFile is where the key lies with which the server signs the tokens of its local users.
func (c *Config) KeyFile() string { return filepath.Join(c.StateDir(), "auth.key") }

func orIn(path string, elements ...string) string {
	if path != "" {
		return path
	}
	return filepath.Join(elements...)
}

// Validate checks what types cannot say. It reports the first key at fault and what it should be.
func (c *Config) Validate() error {
	checks := []struct {
		ok   bool
		key  string
		got  any
		want string
	}{
		{c.Server.Name != "", "server.name", c.Server.Name, "a name"},
		{c.Server.Port >= 0 && c.Server.Port <= 65535, "server.port", c.Server.Port, "0 to 65535 (0 picks a free one)"},
		{validPrefix(c.Server.APIPrefix), "server.api_prefix", c.Server.APIPrefix, "empty, or a path such as /monai without a slash at the end"},
		{c.Server.MaxUpload >= 1<<20, "server.max_upload", c.Server.MaxUpload, "at least 1MiB"},
		{validOrigins(c.Server.CORSOrigins), "server.cors_origins", c.Server.CORSOrigins,
			"origins such as https://ohif.hospital.lan (a scheme and a host, no path), loopback or *"},
		{(c.Server.TLS.CertFile == "") == (c.Server.TLS.KeyFile == ""), "server.tls.key_file", c.Server.TLS.KeyFile, "a key and a certificate (server.tls.cert_file), or neither"},
		{c.Server.TLS.ClientCA == "" || c.Server.TLS.CertFile != "", "server.tls.client_ca", c.Server.TLS.ClientCA, "nothing, or also server.tls.cert_file and server.tls.key_file"},
		{c.Auth.Enable || c.Auth.AllowAnonymous || Loopback(c.Server.Host), "server.host", c.Server.Host,
			"127.0.0.1 as long as there is no login: either set auth.enable with auth.accounts or auth.realm_uri, or, if everybody who reaches " +
				"this address may read and change the studies, set auth.allow_anonymous (--allow-anonymous)"},
		{!c.Auth.Enable || c.Auth.RealmURI != "" || c.Auth.Accounts != "", "auth.enable", c.Auth.Enable,
			"false, or also auth.accounts (a file made by `scrawl account`) or auth.realm_uri (an OpenID Connect realm)"},
		{!c.Auth.Enable || !c.Auth.AllowAnonymous, "auth.allow_anonymous", c.Auth.AllowAnonymous, "false when auth.enable is true"},
		{validRealm(c.Auth.RealmURI), "auth.realm_uri", c.Auth.RealmURI, "an https address (http only on this machine) such as https://sso.hospital.lan/realms/monailabel"},
		{c.Auth.RealmURI == "" || c.Auth.ClientID != "", "auth.client_id", c.Auth.ClientID, "the client's name in the realm"},
		{c.Auth.Timeout > 0, "auth.timeout", c.Auth.Timeout, "a positive duration such as 10s"},
		{c.Auth.TokenLifetime >= time.Minute, "auth.token_lifetime", c.Auth.TokenLifetime, "at least 1m"},
		{c.Auth.ImageGrant >= 0 && c.Auth.ImageGrant <= time.Hour, "auth.image_grant", c.Auth.ImageGrant, "0 (off) to 1h"},
		{distinct(c.Auth.Roles.User, c.Auth.Roles.Annotator, c.Auth.Roles.Reviewer, c.Auth.Roles.Admin), "auth.roles", c.Auth.Roles, "four different names"},
		{c.Auth.Claims.Username != "" && c.Auth.Claims.Roles != "", "auth.claims", c.Auth.Claims, "names of members for username and roles"},
		{c.Server.ShutdownTimeout > 0, "server.shutdown_timeout", c.Server.ShutdownTimeout, "a positive duration such as 30s"},
		{validStudies(c.Studies), "studies", withoutPassword(c.Studies), "a folder, or the address of a DICOMweb archive such as http://127.0.0.1:8042/dicom-web, with credentials in dicomweb.username and dicomweb.password"},
		{(c.DICOMweb.Username == "") == (c.DICOMweb.Password == ""), "dicomweb.password", c.DICOMweb.Password, "a password and a username, or neither"},
		{c.DICOMweb.Token == "" || c.DICOMweb.TokenFile == "", "dicomweb.token_file", c.DICOMweb.TokenFile, "a token or a file with one"},
		{validFilters(c.DICOMweb), "dicomweb.search", c.DICOMweb.Search, "at least one filter such as Modality=CT"},
		{c.DICOMweb.Refresh > 0, "dicomweb.refresh", c.DICOMweb.Refresh, "a positive duration such as 30s"},
		{c.DICOMweb.Timeout > 0, "dicomweb.timeout", c.DICOMweb.Timeout, "a positive duration such as 30s"},
		{c.DICOMweb.ReadTimeout > 0, "dicomweb.read_timeout", c.DICOMweb.ReadTimeout, "a positive duration such as 30s"},
		{c.DICOMweb.Retries >= 0, "dicomweb.retries", c.DICOMweb.Retries, "0 or more"},
		{c.DICOMweb.CacheBytes >= 1<<20, "dicomweb.cache_bytes", c.DICOMweb.CacheBytes, "at least 1MiB"},
		{c.DICOMweb.CacheExpiry > 0, "dicomweb.cache_expiry", c.DICOMweb.CacheExpiry, "a positive duration such as 168h"},
		{c.DICOMweb.MaxSeries >= 1<<20, "dicomweb.max_series", c.DICOMweb.MaxSeries, "at least 1MiB"},
		{c.App != "", "app", c.App, "the name of a built-in app such as scribbles, or a folder"},
		{validDevice(c.Runtime.Device), "runtime.device", c.Runtime.Device, "cpu, cuda, cuda:N or auto"},
		{c.Runtime.Threads >= 0, "runtime.threads", c.Runtime.Threads, "0 (all cores) or more"},
		{c.Runtime.Device != "cpu" || !c.Runtime.TF32 && !c.Runtime.Half, "runtime.tf32 or runtime.half", true, "false on device cpu: they are CUDA's"},
		{c.Runtime.GPUMemory >= 0, "runtime.gpu_memory", c.Runtime.GPUMemory, "0 (no limit) or more"},
		{oneOf(c.Engine.Profile, "default", "hindsight", "thesis", "frozen"), "engine.profile", c.Engine.Profile, "default, hindsight, thesis or frozen"},
		{c.Engine.Memory >= 64<<20, "engine.memory", c.Engine.Memory, "at least 64MiB"},
		{c.Engine.InferTimeout > 0, "engine.infer_timeout", c.Engine.InferTimeout, "a positive duration such as 10m"},
		{c.Engine.Queue >= 1, "engine.queue", c.Engine.Queue, "at least 1"},
		{c.Sessions.Expiry >= time.Second, "sessions.expiry", c.Sessions.Expiry, "at least 1s"},
		{c.Sessions.MaxCount >= 1, "sessions.max_count", c.Sessions.MaxCount, "at least 1"},
		{c.Sessions.MaxBytes >= 1<<20, "sessions.max_bytes", c.Sessions.MaxBytes, "at least 1MiB"},
		{validPatterns(c.Datastore.FileExt), "datastore.file_ext", c.Datastore.FileExt, "at least one pattern such as *.nii.gz"},
		{oneOf(c.Log.Level, "debug", "info", "warn", "error"), "log.level", c.Log.Level, "debug, info, warn or error"},
		{oneOf(c.Log.Format, "console", "json"), "log.format", c.Log.Format, "console or json"},
		{c.Log.MaxBytes >= 64<<10, "log.max_bytes", c.Log.MaxBytes, "at least 64KiB"},
		{c.State.SnapshotBudget >= 0, "state.snapshot_budget", c.State.SnapshotBudget, "0 or more"},
	}
	for _, check := range checks {
		if !check.ok {
			return fmt.Errorf("%s is %#v, want %s", check.key, plain(check.got), check.want)
		}
	}
	return nil
}

// plain turns values with a text form into it, so that messages show 30s and not a count of nanoseconds.
func plain(v any) any {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	return v
}

func oneOf(s string, allowed ...string) bool {
	for _, a := range allowed {
		if s == a {
			return true
		}
	}
	return false
}

// LoopbackOrigins stands in server.cors_origins for all web pages of this machine, whatever their port.
const LoopbackOrigins = "loopback"

// Loopback reports whether a host to listen on can be reached from this machine only.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func validOrigins(origins []string) bool {
	for _, origin := range origins {
		u, err := url.Parse(origin)
		ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Scheme+"://"+u.Host == origin
		if !ok && origin != "*" && origin != LoopbackOrigins {
			return false
		}
	}
	return true
}

func validRealm(uri string) bool {
	u, err := url.Parse(uri)
	if uri == "" {
		return true
	}
	return err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && (u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname()))
}

func distinct(names ...string) bool {
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			return false
		}
	}
	return true
}

func validPrefix(p string) bool {
	return p == "" || (strings.HasPrefix(p, "/") && !strings.HasSuffix(p, "/") && !strings.ContainsAny(p, "?#:* "))
}

func validDevice(d string) bool {
	if d == "cpu" || d == "cuda" || d == "auto" {
		return true
	}
	index, ok := strings.CutPrefix(d, "cuda:")
	return ok && index != "" && len(index) < 4 && strings.Trim(index, "0123456789") == ""
}

func validPatterns(patterns []string) bool {
	for _, p := range patterns {
		if !strings.HasPrefix(p, "*.") || len(p) < 3 || strings.ContainsAny(p, `/\`) {
			return false
		}
	}
	return len(patterns) > 0
}
