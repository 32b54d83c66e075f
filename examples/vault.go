// Package examples holds a small example vault: a template for each job type, an
// overview for Obsidian Bases, a page that explains them, a .stignore, and the
// types of our properties. The files are part of the program, so that `runner init
// --examples` can offer them; it decides where each goes, and writes none that is
// there already.
//
// Every template is a draft until its owner unticks it, and then a valid job.
package examples

import (
	"embed"
	"io/fs"
)

// Where things lie in the example vault.
const (
	// Templates is the folder for the core plugin Templates; its files belong
	// wherever a vault keeps those.
	Templates = "_templates"
	// Settings is the folder of Obsidian's own settings.
	Settings = ".obsidian"
	// PropertyTypes is the file in which Obsidian keeps the type of each property
	// of a vault: {"types": {NAME: TYPE}}.
	PropertyTypes = Settings + "/types.json"
)

//go:embed all:vault
var files embed.FS

// Vault returns the example vault, read-only and safe for concurrent use.
func Vault() fs.FS {
	vault, err := fs.Sub(files, "vault")
	if err != nil {
		panic(err) // the name is a valid one
	}
	return vault
}
