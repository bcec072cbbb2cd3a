package start

import "io"

func KernelLog(w io.Writer) io.Writer { return kernelLog{w} }
