package queue

import (
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

const guard = 2 * time.Second

// box is a queue over a file system in memory, with a clock that only pass moves.
type box struct {
	t  *testing.T
	fs *altered
	*Queue
	now time.Time
}

func newBox(t *testing.T, guard time.Duration) *box {
	t.Helper()
	b := &box{t: t, fs: &altered{Mem: vaulttest.NewMem()}, now: time.Now()}
	for _, dir := range Folders() {
		b.must(b.fs.Mkdir(dir))
	}
	b.Queue = newQueue(vault.New(b.fs), guard)
	return b
}

func newQueue(v *vault.Vault, guard time.Duration) *Queue {
	return New(v, guard, job.Rules{Providers: []job.ProviderRule{{Name: "echo", Models: []string{"echo"}}}})
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// write makes a file, with a new inode if there is one of that name.
func (b *box) write(name, text string) {
	b.t.Helper()
	if _, err := b.fs.Lstat(name); err == nil {
		b.must(b.fs.Remove(name))
	}
	b.must(b.vault.Write(name, []byte(text)))
}

// typist makes a file that goes on being written in place.
func (b *box) typist(name, text string) func(more string) {
	b.t.Helper()
	f, err := b.fs.Create(name)
	b.must(err)
	write := func(more string) {
		b.t.Helper()
		_, err := f.Write([]byte(more))
		b.must(err)
	}
	write(text)
	return write
}

// pass lets time go by and looks at the whole folder, as the poller does.
func (b *box) pass(d time.Duration) (failed []*Item) {
	b.t.Helper()
	b.now = b.now.Add(d)
	b.must(b.Scan(b.now))
	for {
		some, more := b.Advance(b.now)
		failed = append(failed, some...)
		if !more {
			return failed
		}
	}
}

func (b *box) status(name string, want Status, reason string) {
	b.t.Helper()
	it := b.Item(name)
	if it == nil {
		b.t.Errorf("%s is not seen, want it %s", name, want)
		return
	}
	if it.Status != want || !strings.Contains(it.Reason, reason) || (reason == "") != (it.Reason == "") {
		b.t.Errorf("%s is %s (%q), want %s (%q)", name, it.Status, it.Reason, want, reason)
	}
}

func (b *box) line(want string) {
	b.t.Helper()
	if got := names(b.Ready()); got != want {
		b.t.Errorf("in line are %q, want %q", got, want)
	}
}

func names(items []*Item) string {
	var all []string
	for _, it := range items {
		all = append(all, it.Name)
	}
	return strings.Join(all, " ")
}

// altered changes what a file system says of files.
type altered struct {
	*vaulttest.Mem
	alter func(name string, info vault.Info) vault.Info
}

func (a *altered) Lstat(name string) (vault.Info, error) {
	info, err := a.Mem.Lstat(name)
	if a.alter != nil && err == nil {
		info = a.alter(name, info)
	}
	return info, err
}

func (a *altered) Open(name string) (vault.File, error) {
	f, err := a.Mem.Open(name)
	if err != nil {
		return nil, err
	}
	return &alteredFile{f, a, name}, nil
}

type alteredFile struct {
	vault.File
	fs   *altered
	name string
}

func (f *alteredFile) Stat() (vault.Info, error) {
	info, err := f.File.Stat()
	if f.fs.alter != nil && err == nil {
		info = f.fs.alter(f.name, info)
	}
	return info, err
}
