// Checks checkpoints and proofs with golang.org/x/mod/sumdb: one JSON case a line in, "ok" or the reason a line out.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Note    string
	Key     string
	Size    int64
	Root    []byte
	Old     int64
	OldRoot []byte
	Index   int64
	Leaf    []byte
	Path    [][]byte
	Kind    string
}

func hash(raw []byte) (h tlog.Hash) {
	copy(h[:], raw)
	return h
}

func hashes(raw [][]byte) (all []tlog.Hash) {
	for _, each := range raw {
		all = append(all, hash(each))
	}
	return all
}

func judge(c testCase) error {
	switch c.Kind {
	case "note":
		verifier, err := note.NewVerifier(c.Key)
		if err != nil {
			return err
		}
		opened, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
		if err != nil {
			return err
		}
		lines := strings.Split(opened.Text, "\n")
		if lines[1] != fmt.Sprint(c.Size) || lines[2] != hash(c.Root).String() {
			return fmt.Errorf("another tree")
		}
		return nil
	case "inclusion":
		return tlog.CheckRecord(hashes(c.Path), c.Size, hash(c.Root), c.Index, hash(c.Leaf))
	case "consistency":
		return tlog.CheckTree(hashes(c.Path), c.Size, hash(c.Root), c.Old, hash(c.OldRoot))
	}
	return fmt.Errorf("unknown kind")
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c testCase
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = judge(c)
		}
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
}
