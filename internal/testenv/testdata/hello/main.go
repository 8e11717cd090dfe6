// Command hello prints its user.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println("hello from", os.Getuid()) }
