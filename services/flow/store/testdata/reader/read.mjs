// Prints the rows of Parquet files, a line of JSON each, with numbers of 64 bits as strings.
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

for (const path of process.argv.slice(2)) {
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path), compressors })
  for (const row of rows) {
    console.log(JSON.stringify(row, (_, v) => typeof v === 'bigint' ? v.toString() : v))
  }
}
