module mlserving.triton/lab/pause

go 1.25.0
