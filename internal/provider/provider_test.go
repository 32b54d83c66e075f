package provider_test

import (
	"testing"

	"davidcockson.com/runner/internal/provider"
)

func TestSameModel(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"gemma4", "gemma4:latest", true},
		{"Gemma4:LATEST", "gemma4", true},
		{"gemma4:12b", "gemma4:12B", true},
		{"gemma4:12b", "gemma4", false},
		{"gemma4", "gemma", false},
		{":latest", "", false},
	} {
		if provider.SameModel(row.a, row.b) != row.want || provider.SameModel(row.b, row.a) != row.want {
			t.Errorf("%q and %q: want %t", row.a, row.b, row.want)
		}
	}
}
